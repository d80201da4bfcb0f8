"""The DAG itself, with its real stages: from nothing to a table. What a change reruns: test_reruns.py."""

import copy
import csv
import io
import json
import re

import pandas as pd
import pytest
from tiny_project import TINY

RUNS = set(TINY["runs"])
CLIPS = sum(count for name, count in TINY["synth"]["tiny"].items() if name.endswith("_clips"))


@pytest.mark.fault(40)
def test_raw_clips_become_a_table(tiny):
    project, outs, output = tiny
    metrics = json.loads(outs["data/results/report/metrics.json"])
    assert set(metrics) == RUNS
    assert all(set(run) == {"accuracy", "std"} and 0 <= run["accuracy"] <= 100 for run in metrics.values())
    assert all(f"| {run} |" in output for run in RUNS)
    manifest = pd.read_parquet(project.root / "data/clips/clips.parquet")
    assert list(manifest["status"]) == ["ok"] * CLIPS
    assert b"<h1>Tiny</h1>" in outs["data/results/report/index.html"]


def test_nothing_changed_nothing_runs(project):
    assert project.repro()[0] == set()


def test_one_more_clip_is_decoded_and_encoded_alone(project):
    params = copy.deepcopy(TINY)
    params["synth"]["tiny"]["train_clips"] += 1
    project.write_params(params)
    ran, output = project.repro("extract@first")
    assert ran == {"plan", "synthesize@tiny", "index", "decode", "extract@first"}
    assert f"decode: 1 of {CLIPS + 1} clips decoded now" in output
    assert f"{CLIPS + 1} clips stored, 1 encoded" in output


@pytest.mark.fault(18)
def test_a_faulty_params_file_stops_before_any_work(project):
    params = copy.deepcopy(TINY)
    params["methods"]["cace_net"]["lambda_contrst"] = 0.4
    params["runs"]["avel_first"]["features"] = "frist"
    params["media"]["frames_per_second"] = 0
    project.write_params(params)
    output = project.run("dvc", "repro", code=None)
    assert re.findall("Running stage '(.*)'", output) == ["plan"]
    for words in ("lambda_contrast", "'first'", "media.frames_per_second", "3 problems"):
        assert words in output
    assert "Traceback" not in output


def test_experiments_compare_readably(project):
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "--allow-empty", "-m", "results")
    output = project.run("dvc", "exp", "run", "--name", "less", "-S", "methods.cace_net.lambda_contrast=0.4")
    assert set(re.findall("Running stage '(.*)'", output)) == {"plan", "train@cace_first", "evaluate@cace_first", "report"}
    whole = list(csv.DictReader(io.StringIO(project.run("dvc", "exp", "show", "--csv"))))
    by_name = {line["Experiment"]: line for line in whole}
    assert float(by_name["less"]["methods.cace_net.lambda_contrast"]) == 0.4
    metrics = [column for column in whole[0] if column.endswith(("accuracy", ".std")) or column == "std"]
    assert len(metrics) == 2 * len(RUNS)
    changes = project.run("dvc", "metrics", "diff", "--all", "HEAD").splitlines()
    assert changes[0].split() == ["Path", "Metric", "HEAD", "workspace", "Change"]
    assert len(changes) == 1 + 2 * len(RUNS)
    assert all(re.search(r" \w+\.(accuracy|std)( +-?\d+(\.\d{1,2})?){3}$", line) for line in changes[1:]), changes
    assert project.run("dvc", "plots", "diff", "HEAD")
    assert "cace_first" in (project.root / "dvc_plots" / "index.html").read_text(encoding="utf-8")

    project.run("dvc", "exp", "run", "--queue", "--name", "later", "-S", "methods.cace_net.lambda_contrast=0.2")
    table = project.run("python", "-m", "pipeline", "table", "--experiments", "l*")
    lines = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}
    assert "| methods.cace_net.lambda_contrast |" in table.splitlines()[0]
    assert re.search(r"^\| less \| done \| 0\.4 \| ", lines["less"])
    assert lines["later"].startswith("| later | queued | 0.2 | – ")


def test_plots_can_be_drawn(project):
    output = project.run("dvc", "plots", "show")
    page = project.root / "dvc_plots" / "index.html"
    assert page.is_file(), output
    assert "avel_second" in page.read_text(encoding="utf-8")
