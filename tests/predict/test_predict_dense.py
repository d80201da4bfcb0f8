"""Dense localization of whole files: as `evaluate` in one window, joined over many, drawn with overlapping events."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.methods import METHODS
from pipeline.predict import load_run
from stages import evaluate, train
from tests.predict.dense_method import FixedSpans

CLIPS = Path("data/raw/tiny/clips")


@pytest.fixture
def dense(project, edit_params, monkeypatch):
    """The project with a trained run `spans` of the task `dave`."""
    monkeypatch.setitem(METHODS._entries, "spans", FixedSpans)

    def add(params):
        params["methods"]["spans"] = {}
        params["runs"]["spans"] = {"task": "dave", "method": "spans", "features": "first", "seeds": [0], "overrides": {}}

    edit_params(add)
    if not Path("data/results/runs/spans/metrics.json").is_file():
        monkeypatch.setattr(train, "keep_freed_memory", lambda: None)
        train.main("spans")
        evaluate.main("spans")
    return project


def test_a_file_of_one_window_has_the_detections_that_evaluate_gave_it(dense):
    lines = pd.read_parquet("data/results/runs/spans/predictions.parquet")
    lines = lines[lines["split"] == "test"]
    assert {*lines["kind"]} == {"clip", "true", "found"}
    predictor = load_run("spans")
    for clip, of_clip in list(lines.groupby("clip"))[::3]:
        found = predictor.predict(CLIPS / f"{clip}.mp4")
        threshold = of_clip["score"][of_clip["kind"] == "clip"].iloc[0]
        stored = of_clip[(of_clip["kind"] == "found") & (of_clip["score"] >= threshold)]
        expected = [(classes_of(predictor)[line.label], line.start, line.end, line.score) for line in stored.itertuples()]
        events = [(event.label, event.start, event.end, event.score) for event in found.events]
        assert len(expected) == len(events) > 0
        for one, other in zip(
            sorted(expected, key=lambda e: (e[1], e[0], e[2])), sorted(events, key=lambda e: (e[1], e[0], e[2])), strict=True
        ):
            assert one[0] == other[0]
            np.testing.assert_allclose(one[1:], other[1:], atol=2e-5)


def classes_of(predictor):
    return predictor.facts["classes"]


def test_a_metrics_file_has_the_trivial_answers_and_a_calibrated_threshold(dense):
    metrics = json.loads(Path("data/results/runs/spans/metrics.json").read_text(encoding="utf-8"))
    of_test = metrics["seeds"]["test"]["0"]
    assert metrics["headline"] == "mAP"
    assert 0 < of_test["threshold"] < 1
    assert of_test["mAP"] > of_test["baseline_every_class_whole_clip"]
