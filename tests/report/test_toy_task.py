"""A task unlike today's: a line per event, so that clips have as many lines as they like, and a headline that is no mean over clips.

It goes the whole way: trained, evaluated, compared, and shown in tables and on the page.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_runs import EVERY_STEP, make_inputs, train

from pipeline.metrics.bootstrap import Difference
from pipeline.sealed import read_sealed
from pipeline.tasks import TASKS, Task, avel
from pipeline.tasks.lanes import Lane
from pipeline.tasks.tracks import Tracks, runs
from pipeline.training.evaluate import evaluate_run

BARE = 16  # a test row without an event


def events_of(labels, num_classes):
    """(T,) -> {(start, end, label)}."""
    return {(start, end, label) for label in range(num_classes) for start, end in runs(labels == label)}


def f1(counts):
    """Percent, of (hits, found, true) summed over clips."""
    hits, found, true = np.sum(counts, axis=0)
    return 200.0 * hits / (found + true) if found + true else 0.0


class ExactEvents:
    """Events count as found if class, start and end are right; the headline is the F-score over all events of all clips."""

    __file__: str | None = __file__
    HEADLINE = "event_f1"
    SECONDARY = {"found": "Events found"}  # noqa: RUF012  as a module has it
    CLIP_SCORE = "F of events"
    GRID = None
    prior_scores = staticmethod(avel.prior_scores)
    COMPARED: tuple[str, ...] = ("start", "end", "label", "true", "found")
    SHOWN: tuple[str, ...] = (*COMPARED, "segments")
    CONFIDENT: tuple[str, ...] = ()
    has_tracks, overlapping_windows = True, False
    row_targets, video_targets = staticmethod(avel.row_targets), staticmethod(avel.video_targets)
    joined = staticmethod(avel.joined)
    decide, attention, tracks = staticmethod(avel.decide), staticmethod(avel.attention), staticmethod(avel.tracks)

    def score(self, decided, truth, mask, num_classes, segment_seconds):
        pairs = [tuple(events_of(part.numpy(), num_classes) for part in pair) for pair in zip(decided, truth.segments, strict=True)]
        counts = [(len(found & true), len(found), len(true)) for found, true in pairs]
        return {"event_f1": f1(counts), "found": int(np.sum(counts, axis=0)[1])}

    def table(self, scores, decided, truth, mask):
        lines = []
        for number, (said, labels) in enumerate(zip(decided.numpy(), truth.segments.numpy(), strict=True)):
            found, true = (events_of(part, scores.segments.shape[-1] - 1) for part in (said, labels))
            lines += [(number, *event, event in true, event in found, len(said)) for event in sorted(found | true)]
        return pd.DataFrame(lines, columns=["clip_number", *self.SHOWN])

    def counts(self, lines):
        """(hits, found, true) by annotation row."""
        return lines.assign(hits=lines["true"] & lines["found"]).groupby("row")[["hits", "found", "true"]].sum()

    def clip_scores(self, lines):
        return self.counts(lines).apply(lambda of_clip: f1([of_clip]), axis=1).to_frame("score")

    def compare(self, first, second, groups=None):
        scored = [first] if second is None else [first, second]
        by_run = [{seed: self.counts(of_seed) for seed, of_seed in lines.groupby("seed")} for lines in scored]
        rows = np.unique(np.concatenate([lines["row"] for lines in scored]))

        def difference(drawn):
            means = [np.mean([f1(of_seed.reindex(drawn, fill_value=0)) for of_seed in seeds.values()]) for seeds in by_run]
            return np.subtract(*means) if second is not None else means[0]

        drawn = [difference(np.random.default_rng(number).choice(rows, len(rows))) for number in range(50)]
        return Difference(float(difference(rows)), *(float(bound) for bound in np.quantile(drawn, [0.025, 0.975])))

    def confidences(self, lines):
        return {}

    def table_tracks(self, lines, classes, segment_seconds=1.0):
        shape = int(lines["segments"].iloc[0]), len(classes)
        drawn = {name: np.zeros(shape, bool) for name in ("true", "found")}
        for line in lines.itertuples():
            for name, table in drawn.items():
                table[line.start : line.end, line.label] |= getattr(line, name)
        known = Tracks(tuple(classes), {"audio_visual": drawn["found"] * 1.0}, {"audio_visual": drawn["found"]}, np.ones(shape[0], bool))
        return known, {"audio_visual": drawn["true"]}

    def lanes(self, lines, num_classes, segment_seconds=1.0):
        truth, spans = (
            [[line.start, line.end, line.label, kind] for line in lines.itertuples() if getattr(line, name)]
            for name, kind in (("true", "true"), ("found", "right"))
        )
        return [Lane("audio_visual", truth, spans, [0.5] * int(lines["segments"].iloc[0]))]

    def true_classes(self, lines, num_classes):
        return lines["label"][lines["true"]].tolist()

    def eventful(self, lines):
        return pd.Index(sorted(lines["row"].unique()))


@pytest.fixture
def ran(world, helpers, tmp_path, monkeypatch):
    """Two runs of the task, `short` and `long`, as `evaluate` leaves them: name -> its Run."""
    toy: Task = ExactEvents()
    monkeypatch.setitem(TASKS._entries, "toy", toy)
    found = {}
    for name, epochs in (("short", 2), ("long", 6)):
        inputs = make_inputs(tmp_path / name, epochs=epochs)
        inputs = replace(inputs, name=name, run=inputs.run.model_copy(update={"task": "toy"}))
        inputs.index.at[BARE, "events"] = []
        train(inputs, tmp_path / name / "models")
        (world.root / "runs" / name).mkdir(parents=True)
        evaluate_run(inputs, tmp_path / name / "models", EVERY_STEP, world.root / "runs" / name)
        found[name] = inputs.run
    world.write_index(helpers[2]([None] * 21))
    return found


def lines_of(world, name):
    lines = pd.read_parquet(world.root / "runs" / name / "predictions.parquet")
    return lines[lines["split"] == "test"]


def test_clips_have_as_many_lines_as_they_like_and_each_line_knows_its_clip(ran, world):
    lines = lines_of(world, "long")
    numbers = lines.groupby(["seed", "row"]).size()
    assert numbers.nunique() > 1
    assert (lines["clip"] == lines["row"].map("clip{}".format)).all()
    assert "clip_number" not in lines
    metrics = read_sealed(world.root / "runs" / "long" / "metrics.json")
    for seed, of_seed in lines.groupby("seed"):
        hits = (of_seed["true"] & of_seed["found"]).sum()
        expected = 200 * hits / (of_seed["true"].sum() + of_seed["found"].sum())
        assert metrics["seeds"]["test"][str(seed)]["event_f1"] == pytest.approx(expected)
        of_clips = TASKS.get("toy").clip_scores(of_seed)["score"]
        assert expected != pytest.approx(of_clips.mean())  # the headline is no mean over clips


def test_two_runs_are_compared_as_the_task_says(ran, world):
    text = world.report(ran, baseline="short", comparisons={"long": ["short"]}, gallery=3)
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    gain = table.loc["long", "mean"] - table.loc["short", "mean"]
    assert table.loc["long", "difference"] == pytest.approx(gain)
    assert table.loc["long", "low"] <= gain <= table.loc["long", "high"]
    assert f"{gain:+.2f} [" in text
    assert "Events found" in text
    data = json.loads(
        (world.out / "index.html").read_text(encoding="utf-8").split('<script type="application/json" id="data">')[1].split("</script>")[0]
    )
    assert len(data["clips"]) == 3
    assert all(clip["segments"] == 4 and set(clip["lanes"]) <= {"short", "long"} for clip in data["clips"])
