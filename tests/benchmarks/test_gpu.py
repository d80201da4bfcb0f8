"""``python -m benchmarks.gpu`` and ``benchmarks.gpu.demo``: what they plan, their table, and a part that fails or hangs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import demo
from benchmarks.gpu.__main__ import Children
from benchmarks.gpu.parts import AVEL, AVVP, DAVE, ENCODERS, Part, Results, parts
from benchmarks.gpu.table import Record, table
from pipeline.methods import METHODS
from pipeline.yaml_files import read_yaml

OPTIONS = argparse.Namespace(device="cuda", small=False, whole=False, clips=None, count=32, copies=3)


def test_every_method_of_three_tasks_and_every_encoder_has_a_part(tmp_path):
    names = [part.name for part in parts(OPTIONS, tmp_path)]
    assert len(names) == len(set(names))
    assert {f"steps/{name}" for name in METHODS.names() if METHODS.get(name).tasks & {"avel", "avvp", "dave"}} <= set(names)
    for task, listed in (("avel", AVEL), ("avvp", AVVP), ("dave", DAVE)):
        assert {min(METHODS.get(name.partition("-")[0]).tasks) for name in listed} == {task}
    assert {f"extraction/{encoder}@{rate}" for encoder in ENCODERS for rate in (16, 2)} <= set(names)


def cells(lines: list[str], name: str, *more: str) -> list[str]:
    [line] = [line for line in lines if line.startswith(f"| {name} ") and all(word in line for word in more)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_compares_within_one_run_and_leaves_a_gap_where_nothing_was_measured():
    rates = {"decode": 12.0, "encode float32": 8.0, "end to end float32": 6.0, "plain loop float32": 4.0, "decord": 9.0}
    records = [Record("extraction/vgg19@16", line, {"rate": rate, "cpu": 6 / rate}) for line, rate in rates.items()]
    records += [
        Record("steps/as_released", "float64", {"wall_ms": 30.0}),
        Record("steps/cace_net", "32-true off", {"wall_ms": 20.0, "captured": 0.0}),
        Record("steps/cace_net", "32-true auto", {"wall_ms": 5.0, "captured": 1.0}),
        Record("steps/han", "32-true off", {"wall_ms": 9.0, "captured": 0.0}),
        Record("steps/han", "32-true auto", {"wall_ms": 6.0, "captured": 0.0}),
        Record("epochs/tf32", "tf32", {"epochs": 12, "fixed_s": 10, "first_s": 2, "epoch_s": 0.5, "measured_s": 17.5, "whole_s": 111.5}),
    ]
    lines = table(records)
    whole = cells(lines, "vgg19@16", "float32")
    assert whole[2:8] == ["12.00", "8.00", "6.00", "4.00", "0.75", "1.50"]  # of min(12, 8), of the plain loop
    assert whole[8:] == ["0.50", "0.67", "0.75"]
    assert set(cells(lines, "vgg19@16", "bfloat16")[3:]) == {"-"}
    assert cells(lines, "cace_net")[1:6] == ["20.00", "5.00", "-", "-", "6.00"]  # 30 as released / 5
    assert cells(lines, "han")[5] == "1.50"
    assert "not captured: han (32-true)" in lines
    assert cells(lines, "tf32")[-1] == "1.86"
    assert len(lines) <= 60


@pytest.fixture
def child(tmp_path, monkeypatch):
    """The command of a part replaced by a few lines of Python."""

    def run(code: str, limit: float = 60):
        start = f"import json, sys, time\nresults = sys.argv[-1]\nsys.stdin.readline()\n{code}"
        monkeypatch.setattr("benchmarks.gpu.__main__.command_of", lambda part, results: [sys.executable, "-c", start, str(results)])
        with Children([Part("toy", limit, "toy", {})], tmp_path) as children:
            return children.run(0, limit)

    return run


EMIT = "open(results, 'a').write(json.dumps({'line': 'one', 'numbers': {'rate': 2.5}}) + '\\n')\n"


def test_a_part_that_crashes_or_hangs_keeps_what_it_has_measured(child):
    crashed = child(EMIT + "sys.exit('no card')")
    assert (crashed.ended, crashed.log) == ("exit code 1", ["no card"])
    start = time.monotonic()
    hung = child(EMIT + "time.sleep(600)", limit=2)
    assert time.monotonic() - start < 60
    assert hung.ended == "killed at 2 s"
    assert crashed.records == hung.records == [Record("toy", "one", {"rate": 2.5})]


def test_a_job_that_fails_leaves_the_part_s_other_jobs(tmp_path, capsys):
    results = Results(tmp_path / "lines")
    with results.job("first"):
        raise RuntimeError("CUDA error")
    with results.job("second"):
        results.emit("second", rate=1.0)
    assert results.failed
    assert "CUDA error" in capsys.readouterr().err
    assert json.loads((tmp_path / "lines").read_text(encoding="utf-8")) == {"line": "second", "numbers": {"rate": 1.0}}


def test_the_demo_runs_every_stage_of_the_dag_for_every_entry(repository: Path):
    params = read_yaml(repository / "suites/demo.yaml")
    listed = dict(demo.stages(read_yaml(repository / "dvc.yaml"), params))
    assert list(listed) == list(read_yaml(repository / "dvc.yaml")["stages"])
    assert all((repository / "stages" / f"{stage}.py").is_file() for stage in listed)
    assert listed["train"] == listed["evaluate"] == list(params["runs"])
    assert (listed["index"], listed["import_features"], listed["finetune"]) == ([""], [], ["lite0"])
    demo.on_device(params, "cuda")
    demo.override(params, "media.workers=16")
    assert params["media"]["workers"] == 16
    assert params["features"]["lite0_logmel"]["device"] == params["finetune"]["lite0"]["device"] == params["train"]["device"] == "cuda"
