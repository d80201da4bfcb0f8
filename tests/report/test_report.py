import json

import numpy as np
import pandas as pd
import pytest

from pipeline.report import write_report
from pipeline.report.settings import ReportSettings
from pipeline.training.settings import Run

T, CLIPS = 5, 8


def write_row(rows, name, right_by_seed, method="avel"):
    """A row as `evaluate` leaves it: of the CLIPS x T test segments, the first ``right`` are right."""
    directory = rows / name
    directory.mkdir(parents=True)
    tables, seeds = [], {}
    for seed, right in right_by_seed.items():
        true = np.zeros(CLIPS * T, int)
        predicted = np.where(np.arange(CLIPS * T) < right, 0, 1)
        of_seed = {"seed": seed, "split": "test", "row": np.repeat(range(CLIPS), T), "valid": True, "true": true, "predicted": predicted}
        tables.append(pd.DataFrame(of_seed))
        seeds[str(seed)] = {"accuracy": 100 * right / (CLIPS * T), "event_f1": 50.0, "background_f1": None, "baseline_background": 12.5}
    pd.concat(tables).to_parquet(directory / "predictions.parquet")
    document = {"task": "avel", "method": method, "features": "f", "headline": "accuracy", "parameters": 1234567, "seeds": {"test": seeds}}
    document["clips"] = {"test": {"evaluated": CLIPS, "without features": []}}
    (directory / "metrics.json").write_text(json.dumps(document))
    curves = [{"seed": seed, "epoch": epoch, "val/accuracy": 10.0 * epoch + seed} for seed in right_by_seed for epoch in range(3)]
    pd.DataFrame(curves).to_csv(directory / "curves.csv", index=False)


@pytest.fixture
def world(tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "health.json").write_text('["clips with several rows: 1 (<a&b>)"]')
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "summary.json").write_text('{"clips": 9, "ok": 8, "truncated": 1}')
    (tmp_path / "out").mkdir()
    return tmp_path


def report(world, runs, baseline=None):
    settings = ReportSettings(title="Demo", baseline=baseline)
    return write_report(runs, settings, world / "rows", world / "index", world / "clips", world / "out")


def run(seeds=(0, 1), method="avel"):
    return Run(task="avel", method=method, features="f", seeds=list(seeds))


def test_mean_std_and_paired_difference_are_those_computed_by_hand(world):
    write_row(world / "rows", "base", {0: 20, 1: 24})
    write_row(world / "rows", "better", {0: 30, 1: 30})
    text = report(world, {"base": run(), "better": run()}, baseline="base")
    assert "| base | avel | f | **55.00** ± 7.07 (2) | 60.00 (seed 1) | 50.0 |  | 1,234,567 |  |" in text
    table = pd.read_csv(world / "out" / "table.csv").set_index("row")
    assert table.loc["better", "difference"] == pytest.approx(20.0)
    assert table.loc["better", "low"] <= 20 <= table.loc["better", "high"]
    assert table.loc["better", "low"] > -1e-9
    assert json.loads((world / "out" / "metrics.json").read_text()) == {
        "base": {"accuracy": 55.0, "std": 7.07},
        "better": {"accuracy": 75.0, "std": 0.0},
    }
    assert "background 12.50" in text


def test_a_row_that_was_not_run_says_so_and_shows_nothing_old(world):
    write_row(world / "rows", "done", {0: 20})
    write_row(world / "rows", "seed_missing", {0: 20})
    write_row(world / "rows", "other_method", {0: 20})
    runs = {"done": run([0]), "never": run([0]), "seed_missing": run([0, 1]), "other_method": run([0], method="cace_net")}
    text = report(world, runs, baseline="never")
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "**50.00** (1)" in lines["done"]
    for name in ("never", "seed_missing", "other_method"):
        assert "not run" in lines[name]
        assert "50.00" not in lines[name]
    assert list(json.loads((world / "out" / "metrics.json").read_text())) == ["done"]


def test_curves_are_means_over_seeds(world):
    write_row(world / "rows", "base", {0: 20, 1: 24})
    report(world, {"base": run()})
    curves = pd.read_csv(world / "out" / "validation.csv")
    assert curves.to_dict("list") == {"row": ["base"] * 3, "epoch": [0, 1, 2], "value": [0.5, 10.5, 20.5]}


def test_the_page_is_self_contained_escaped_and_the_same_every_time(world):
    write_row(world / "rows", "base", {0: 20, 1: 24})
    report(world, {"base": run(), "never": run()}, baseline="base")
    first = {path.name: path.read_bytes() for path in (world / "out").iterdir()}
    page = first["index.html"].decode()
    assert "&lt;a&amp;b&gt;" in page
    assert "truncated 1" in page
    assert "not run" in page
    assert "http" not in page
    report(world, {"base": run(), "never": run()}, baseline="base")
    assert {path.name: path.read_bytes() for path in (world / "out").iterdir()} == first


def test_a_suite_without_rows_has_a_report_too(world):
    assert report(world, {}).startswith("No rows")
    assert json.loads((world / "out" / "metrics.json").read_text()) == {}
    assert "<h1>Demo</h1>" in (world / "out" / "index.html").read_text()
