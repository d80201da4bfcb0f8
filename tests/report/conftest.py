"""Runs as `evaluate` writes them, the other outs that the report reads, and reports of these."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.datasets.base import Event, Index, Row
from pipeline.datasets.writing import write_index
from pipeline.report import report
from pipeline.report.report import Sources
from pipeline.report.settings import ReportSettings
from pipeline.tasks import avel
from pipeline.training.settings import Run

CLASSES = ["Bell", "Dog <b>", "Guitar"]


class World:
    """A directory with the outs that the report reads, and the report in ``out``."""

    def __init__(self, root) -> None:
        self.root, self.out = root, root / "out"
        self.out.mkdir()
        self.sources = Sources(root / "runs", root / "index", root / "clips", root / "live", 1.0)
        (root / "clips").mkdir()
        (root / "clips" / "summary.json").write_text('{"clips": 9, "ok": 8, "truncated": 1}', encoding="utf-8")
        self.write_index(annotation_rows([None] * 8))

    def write_index(self, rows, health=("clips with several rows: 1 (<a&b>)",)):
        (self.root / "index").mkdir(exist_ok=True)
        write_index(Index(rows, CLASSES, list(health)), self.root / "index")

    def write_run(self, name, true, predicted_by_seed, method="avel", without_features=(), scores=None, test_curves=None, seen=0,
                  made_with=None):  # fmt: skip
        """Write a run's out.

        true: (N, T) labels; predicted_by_seed: seed -> (N, T); scores: seed -> (N, T, C+1), else 0.9 on the label;
        test_curves: seed -> accuracy on test after each of 3 epochs; seen: the first so many test clips stand in train, too;
        made_with: as evaluate writes it.
        """
        directory = self.root / "runs" / name
        directory.mkdir(parents=True)
        true, tables, seeds, unseen = np.asarray(true), [], {}, {}
        for seed, predicted in predicted_by_seed.items():
            predicted = np.asarray(predicted)
            mask = np.ones(true.shape, bool)
            of_seed = np.full((*true.shape, len(CLASSES) + 1), 0.1 / len(CLASSES)) if scores is None else np.asarray(scores[seed])
            if scores is None:
                np.put_along_axis(of_seed, predicted[..., None], 0.9, axis=-1)
            clips, segments = true.shape
            tables.append(pd.DataFrame({
                "segment": np.tile(np.arange(segments), clips), "valid": True, "true": true.ravel(), "predicted": predicted.ravel(),
                "event": 1 - of_seed[..., -1].ravel(), "scores": list(of_seed.reshape(clips * segments, -1).astype(np.float32)),
                "seed": seed, "split": "test", "clip": np.repeat([f"clip{n}" for n in range(clips)], segments),
                "row": np.repeat(np.arange(clips), segments),
            }))  # fmt: skip
            seeds[str(seed)] = avel.evaluate(predicted, true, mask, len(CLASSES))
            unseen[str(seed)] = avel.evaluate(predicted[seen:], true[seen:], mask[seen:], len(CLASSES))
        pd.concat(tables).to_parquet(directory / "predictions.parquet")
        document = {
            "task": "avel", "method": method, "features": "f", "headline": "accuracy", "parameters": 1234567, "seeds": {"test": seeds},
            "weights": {str(seed): f"sha-{name}-{seed}" for seed in predicted_by_seed},
            "clips": {"test": {"evaluated": len(true), "without features": list(without_features)}},
        }  # fmt: skip
        if made_with is not None:
            document["made_with"] = made_with
        if seen:
            document["seeds"]["test_unseen"] = unseen
            document["clips"]["test_unseen"] = {"evaluated": len(true) - seen, "without features": []}
        (directory / "metrics.json").write_text(json.dumps(document), encoding="utf-8")
        curves = [
            {"seed": seed, "epoch": epoch, "train/total": 2.0 - epoch, "val/accuracy": 10.0 * epoch + seed}
            | ({"test/accuracy": test_curves[seed][epoch]} if test_curves else {})
            for seed in predicted_by_seed
            for epoch in range(3)
        ]
        pd.DataFrame(curves).to_csv(directory / "curves.csv", index=False)

    def write_time(self, name, seed, seconds, weights=None):
        directory = self.root / "live" / name / f"seed-{seed}"
        directory.mkdir(parents=True)
        facts = {"weights": weights or f"sha-{name}-{seed}", "seconds": seconds, "device": "cpu"}
        (directory / "time.json").write_text(json.dumps(facts), encoding="utf-8")

    def report(self, runs, methods=None, today=None, drawn=False, **settings):
        """Write the report; without the two figures of all runs, which take longer than the rest, unless ``drawn``."""
        for path in self.out.glob("media/*"):
            path.unlink()
        if (self.out / "media").is_dir():
            (self.out / "media").rmdir()
        with pytest.MonkeyPatch.context() as patch:
            for name in () if drawn else ("draw_runs", "draw_curves"):
                patch.setattr(report, name, lambda *_: None)
            return report.write_report(runs, methods or {}, ReportSettings(**{"title": "Demo", **settings}), self.sources, self.out, today)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture(scope="module")
def module_world(tmp_path_factory):
    """Shared by all tests of a file, which only read it."""
    return World(tmp_path_factory.mktemp("world"))


def share(right, clips=8, segments=5):
    """(true, predicted) of clips x segments, with the first ``right`` segments right."""
    true = np.zeros((clips, segments), int)
    predicted = np.where(np.arange(clips * segments) < right, 0, 1).reshape(true.shape)
    return true, predicted


def run(seeds=(0, 1), method="avel"):
    return Run(task="avel", method=method, features="f", seeds=list(seeds))


def annotation_rows(files):
    """Rows of an index, one per file (None: no file), on the split test."""
    return [Row(f"clip{n}", "test", file, (Event("av", "Bell", 0.0, 1.0),)) for n, file in enumerate(files)]


@pytest.fixture(scope="session")
def helpers():
    """The functions of this file, for the tests: (share, run, annotation_rows)."""
    return share, run, annotation_rows
