"""Runs of cross-modality localization from features to the table: trained, evaluated, reported, compared."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.datasets.base import Index, Row
from pipeline.datasets.writing import write_index
from pipeline.features.store import Entry, FeatureStore, write_store
from pipeline.methods import METHODS
from pipeline.report import pictures
from pipeline.report.report import Sources, write_report
from pipeline.report.results import read_runs
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import baselines_text, results_table
from pipeline.training.evaluate import evaluate_run
from pipeline.training.run import RunInputs
from pipeline.training.settings import Run, TrainSettings
from pipeline.training.train import train_run

CLASSES = ["Dog", "Cat"]
T = 6
SPLITS = ["train"] * 16 + ["val"] * 8 + ["test"] * 9
RELATIONS = {"width": 8, "heads": 2, "feedforward": 8}
METHODS_HERE = {"avdln": {}, "dam": {"width": 8, "heads": 2}, "ccln_matching": RELATIONS, "dmin_matching": RELATIONS}
RECIPE = {"learning_rate": 0.05, "batch_size": 4, "epochs": 3}
RECIPES = dict.fromkeys(METHODS_HERE, RECIPE) | {"avdln": {"learning_rate": 0.02, "batch_size": 8, "epochs": 12}}  # learns slowly
SPANS = [(number % 3, 2 + number // 3 % 3) for number in range(len(SPLITS) - 1)] + [(0, T)]  # start, length; the last fills its clip
SETTINGS = TrainSettings(device="cpu", published_protocol=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(store, index): features show the class in event segments; the last test clip has no queries."""
    directory = tmp_path_factory.mktemp("features")
    entries = []
    for number, (start, length) in enumerate(SPANS):
        rng = np.random.default_rng(number)
        visual, audio = rng.normal(0, 0.3, (T, 5)), rng.normal(0, 0.3, (T, 6))
        for features in (visual, audio):
            features[start : start + length, number % 2] += 2
        facts = {"clip": f"clip{number}", "status": "ok", "valid": [True] * T, "visual_valid": [True] * T, "audio_valid": [True] * T}
        facts |= {"visual_key": f"v{number}", "audio_key": f"a{number}"}
        entries.append(Entry(facts, {"visual": visual.astype(np.float32), "audio": audio.astype(np.float32)}))
    spec = {"segments": T, "segment_seconds": 1.0, "dtype": "float32", "shapes": {"visual": [5], "audio": [6]}}
    write_store(directory, entries, len(entries), spec)
    events = [
        [{"modality": "av", "label": CLASSES[number % 2], "onset": float(start), "offset": float(start + length)}]
        for number, (start, length) in enumerate(SPANS)
    ]
    clips = [f"clip{number}" for number in range(len(SPLITS))]
    labels = [[CLASSES[number % 2]] for number in range(len(SPLITS))]
    return FeatureStore(directory), pd.DataFrame(
        {"row": range(len(clips)), "clip": clips, "split": SPLITS, "events": events, "labels": labels}
    )


def test_every_matching_method_is_trained_evaluated_and_reported(world, tmp_path):
    runs = {}
    for method, narrow in METHODS_HERE.items():
        runs[method] = Run(task="cml", method=method, features="plain", seeds=[0, 1])
        inputs = RunInputs(method, runs[method], {**narrow, "recipe": RECIPES[method]}, *world, CLASSES)
        models, out = tmp_path / "models" / method, tmp_path / "runs" / method
        models.mkdir(parents=True)
        out.mkdir(parents=True)
        train_run(inputs, SETTINGS, models, tmp_path / "live" / method)
        evaluate_run(inputs, models, SETTINGS, out)
    assert set(METHODS_HERE) == {name for name in METHODS.names() if "cml" in METHODS.get(name).tasks}
    results = read_runs(runs, tmp_path / "runs", tmp_path / "live")
    for result in results:
        lines = pd.read_parquet(tmp_path / "runs" / result.name / "predictions.parquet")
        for seed in (0, 1):
            test = lines[(lines["seed"] == seed) & (lines["split"] == "test")]
            assert len(test) == 2 * 9
            asked = test[test["valid"]]
            assert sorted(set(asked["row"])) == list(range(24, 32))
            assert all((line.true, line.length) == SPANS[line.row] for line in asked.itertuples())
            right = 100 * (asked["true"] == asked["predicted"]).mean()
            assert json.loads((tmp_path / "runs" / result.name / "metrics.json").read_text(encoding="utf-8"))["seeds"]["test"][str(seed)][
                "accuracy"
            ] == pytest.approx(right)
        for seed, last, best in zip((0, 1), result.last_epoch, result.best_test_epoch, strict=True):
            curve = json.loads((tmp_path / "models" / result.name / f"seed-{seed}.json").read_text(encoding="utf-8"))["history"]
            of_test = [record["test/accuracy"] for record in curve]
            assert (len(of_test), last, best) == (RECIPES[result.name]["epochs"], pytest.approx(of_test[-1]), pytest.approx(max(of_test)))
        assert result.mean > max(result.values_of("baseline_first")[0], result.values_of("baseline_last")[0])  # it did learn
    table = results_table(results, ReportSettings(title="CML", baseline="avdln"))
    assert table["a2v"].notna().all()
    assert ((table["a2v"] + table["v2a"]) / 2).tolist() == pytest.approx(table["mean"].tolist())
    assert table["difference"].notna().tolist() == [False, True, True, True]
    assert "first" in baselines_text(results)
    assert pictures.choose(results) is None  # no events of a clip to draw
    write_index(Index([Row(f"clip{n}", split, None) for n, split in enumerate(SPLITS)], CLASSES, []), made(tmp_path / "index"))
    (made(tmp_path / "clips") / "summary.json").write_text('{"clips": 0}', encoding="utf-8")
    sources = Sources(tmp_path / "runs", tmp_path / "index", tmp_path / "clips", tmp_path / "live", 1.0)
    text = write_report(runs, {}, ReportSettings(title="CML", baseline="avdln"), sources, made(tmp_path / "report"))
    assert "| A2V | V2A | A2V IoU | V2A IoU |" in text
    assert "ccln_matching" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_a_run_is_scored_if_its_unseen_clips_have_no_queries(world, tmp_path):
    store, index = world
    for name, repeated in (("nothing", slice(24, 32)), ("something", slice(24, 30))):  # the last test clip, without queries, stays
        rows = pd.concat([index, index.iloc[repeated].assign(split="train")])
        run = Run(task="cml", method="avdln", features="plain", seeds=[0])
        inputs = RunInputs(name, run, {"recipe": {"epochs": 1}}, store, rows, CLASSES)
        models, out = made(tmp_path / f"models-{name}"), made(tmp_path / name)
        train_run(inputs, SETTINGS, models, tmp_path / "live")
        evaluate_run(inputs, models, SETTINGS, out)
    nothing, something = (json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8")) for name in ("nothing", "something"))
    assert nothing["seeds"]["test"]["0"]["asked"] == 8
    assert "test_unseen" not in nothing["seeds"]
    assert "test_unseen" not in nothing["clips"]
    assert something["seeds"]["test_unseen"]["0"]["asked"] == 2


def made(directory):
    directory.mkdir()
    return directory
