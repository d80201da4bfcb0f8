"""A run of audio-visual video parsing from raw clips to the report, as a user would run it."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from tiny_project import NARROW, TINY


@pytest.fixture
def parsing(project):
    """The tiny project's clips with a run of HAN in place of all others."""
    run = {"task": "avvp", "method": "han", "features": "second", "seeds": [0]}
    project.write_params({
        **TINY,
        "dataset": {**TINY["dataset"], "kind": "llp"},
        "features": {"second": TINY["features"]["second"]},
        "methods": {"han": {"motion": None, "width": 16, "feedforward": 16, "recipe": {**NARROW, "epochs": 2}}},
        "runs": {"han": run},
        "report": {"title": "Parsing"},
    })  # fmt: skip
    return project


def test_clips_become_a_table_with_what_trivial_answers_score(parsing):
    ran, output = parsing.repro()
    assert {"train@han", "evaluate@han", "report"} <= ran, output
    assert "Traceback" not in output
    metrics = json.loads((parsing.root / "data/results/runs/han/metrics.json").read_text(encoding="utf-8"))
    assert metrics["headline"] == "segment/Type@AV"
    of_test = metrics["seeds"]["test"]["0"]
    report = parsing.root / "data/results/report"
    text = (report / "table.md").read_text(encoding="utf-8")
    assert f"**{of_test['segment/Type@AV']:.2f}**" in text
    assert "| (nothing, always) | segment | as published |" in text
    assert of_test["trivial"].keys() == {"nothing", "weak_label", "class_prior", "majority_prior"}
    assert f"class prior {of_test['baseline_class_prior']:.2f}" in text
    assert f"nothing {of_test['baseline_nothing']:.2f}, weak label {of_test['baseline_weak_label']:.2f}" in text
    assert "Parsing, every score beside trivial answers" in (report / "index.html").read_text(encoding="utf-8")
    assert '"track":"audio"' in (report / "index.html").read_text(encoding="utf-8")
    assert (report / "timeline.png").stat().st_size > 10_000
    lines = pd.read_parquet(parsing.root / "data/results/runs/han/predictions.parquet")
    assert len(lines[lines["split"] == "test"]) == TINY["synth"]["tiny"]["test_clips"] * 10
