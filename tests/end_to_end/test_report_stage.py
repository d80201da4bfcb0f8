"""The stage report where something is missing or old: said in the table, in the exit code, and by the command table."""

import copy
import json
import shutil

import pytest
from tiny_project import TINY

from tests.wording import says


def table(project):
    return (project.root / "data/results/report/table.md").read_text(encoding="utf-8")


def line_of(text, run):
    return next(line for line in text.splitlines() if line.startswith(f"| {run} "))


def test_every_number_says_which_machine_and_which_params_made_it(tiny):
    project, outs, output = tiny
    of_features = json.loads(outs["data/features/first/made_with.json"])
    of_run = json.loads(outs["data/results/runs/avel_first/metrics.json"])["made_with"]
    (machine,) = of_features["machines"]["features"]
    assert machine["threads"] == 1
    assert of_run["machines"]["features"] == [machine]
    for seed in ("0", "1"):
        trained = json.loads(outs[f"models/runs/avel_first/seed-{seed}.json"])
        assert trained["machines"] == of_run["machines"]["training"][seed]
        assert trained["machines"] == [machine]  # one thread each, by the environment
    (params,) = of_run["params"]
    assert params["dataset"]["annotations"] == "data/raw/tiny"
    assert params["features"]["first"]["visual"]["image_size"] == 64
    assert params["media"]["frames_per_second"] == 1
    assert params["settings"]["recipe"]["epochs"] == 3
    assert f"Made on: {machine['processor']}, {machine['instructions']}, " in output
    assert "stale" not in output
    card = outs["data/results/report/runs/avel_first/README.md"].decode()
    assert says(card, "# avel_first", "`ave`", "train: 8 annotation rows", "efficientnet_lite0", "| accuracy |", "drawn by a program")
    assert says(card, "## Weights and machines", machine["processor"])
    written = b"".join(content for path, content in outs.items() if path.startswith(("data/results", "data/index", "models/runs")))
    assert str(project.root).encode() not in written


@pytest.mark.fault(39)
def test_a_missing_run_is_published_as_missing_and_ends_in_an_error(project):
    shutil.rmtree(project.root / "data/results/runs/cace_first")
    recorded = (project.root / "dvc.lock").read_text(encoding="utf-8")
    output = project.run("dvc", "repro", "--single-item", "report", code=255)
    assert says(output, "report: ", "1 of 3", "missing", "cace_first", "dvc repro evaluate@cace_first")
    assert "| not run |" in line_of(table(project), "cace_first")
    assert "| not run |" not in line_of(table(project), "avel_first")
    assert set(json.loads((project.root / "data/results/report/metrics.json").read_text(encoding="utf-8"))) == {"avel_first", "avel_second"}
    assert (project.root / "dvc.lock").read_text(encoding="utf-8") == recorded  # DVC has no report on record that lacks a run
    assert project.run("python", "-m", "stages.report", code=1)
    project.repro()
    assert "| not run |" not in table(project)
    assert set(json.loads((project.root / "data/results/report/metrics.json").read_text(encoding="utf-8"))) == set(TINY["runs"])


def test_a_report_alone_after_a_change_of_params_marks_what_is_old(project):
    params = copy.deepcopy(TINY)
    params["methods"]["cace_net"]["recipe"] = {**params["methods"]["cace_net"]["recipe"], "epochs": 4}  # it shares avel's
    params["features"]["second"]["visual"]["image_size"] = 48
    project.write_params(params)
    before = project.run("python", "-m", "pipeline", "table")
    (line,) = [line for line in before.splitlines() if "cace_first: " in line]
    assert says(line, "stale", "recipe.epochs 3 -> 4")
    output = project.run("dvc", "repro", "--single-item", "report")
    assert says(output, "report: cace_first", "stale", "recipe.epochs 3 -> 4")
    text = table(project)
    assert "recipe.epochs 3 -> 4" in text
    assert "features.second.visual.image_size 64 -> 48" in text
    assert line_of(text, "cace_first").startswith("| cace_first (stale) [")
    assert line_of(text, "avel_second").startswith("| avel_second (stale) [")
    assert line_of(text, "avel_first").startswith("| avel_first | ")
    assert set(json.loads((project.root / "data/results/report/metrics.json").read_text(encoding="utf-8"))) == {"avel_first"}
    now = project.run("python", "-m", "pipeline", "table")
    assert now.count("cace_first") == text.count("cace_first"), "says that something changed since the table was made"
    project.write_params(TINY)
    now = project.run("python", "-m", "pipeline", "table")
    assert now.count("cace_first") == text.count("cace_first") + 1
    assert says(now, "no longer", "stale")
