"""Names of params.yaml that are commands or paths, under real `dvc` commands: nothing runs, and nothing is removed."""

from __future__ import annotations

import copy
import shutil

import pytest
from tiny_project import FEATURES, TINY, Project

IMPORT = {
    "directory": "data/none",
    "visual": {"file": "v/{id}.npy", "shape": [8]},
    "audio": {"file": "a/{id}.npy", "shape": [8]},
}
FINETUNE = {"visual": FEATURES["visual"], "audio": FEATURES["audio"]}
ENTRIES = {
    "synth": TINY["synth"]["tiny"],
    "finetune": FINETUNE,
    "features": FEATURES,
    "imports": IMPORT,
    "runs": TINY["runs"]["avel_first"],
}
OUTS = {"synth": "data/raw", "finetune": "models/encoders", "features": "data/features", "imports": "data/features", "runs": "models/runs"}
COMMANDS = ("x; touch y; true ", "x'; touch y; '", '"; touch y; "', "$(touch y)", "`touch y`", "x\ntouch y\n", "x & touch y &")


@pytest.fixture
def project(tmp_path, repository):
    """A fresh working copy, nothing run yet, and beside it a folder that is not the project's."""
    project = Project(tmp_path, repository)
    project.run("git", "init", "-q")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("ten years", encoding="utf-8")
    return project


def with_names(block, *names):
    params = copy.deepcopy(TINY)
    params[block] |= dict.fromkeys(names, ENTRIES[block])
    return params


def nothing_was_touched(project):
    assert (project.root.parent / "precious" / "thesis.txt").read_text(encoding="utf-8") == "ten years"
    assert not list(project.root.rglob("y"))


@pytest.mark.parametrize("block", ENTRIES)
def test_names_that_are_commands_or_paths_are_refused_before_anything_is_done(project, block):
    climbing = "../../../precious" if block != "runs" else "../../../../precious"
    commands = "../../../precious", *COMMANDS
    project.write_params(with_names(block, climbing, *commands))
    for how in ([], ["--keep-going"], ["--force"]):
        output = project.run("dvc", "repro", *how, code=255)
        assert "Running stage 'plan'" in output
        assert output.count("Running stage") == 1
        assert "Traceback" not in output
        for name in (climbing, "x; touch y; true ", "$(touch y)"):
            assert f"{block}.{name}" in output
        nothing_was_touched(project)
    assert not (project.root / OUTS[block] / "x; touch y; true ").exists()


def test_it_is_the_plan_that_protects(project):
    """Without it DVC itself removes the folder, before any code of the project runs: the test above can fail."""
    text = (project.root / "dvc.yaml").read_text(encoding="utf-8")
    assert text.count("        - data/plan/checked.json\n") == 1
    (project.root / "dvc.yaml").write_text(text.replace("        - data/plan/checked.json\n", ""), encoding="utf-8")
    project.write_params(with_names("synth", "../../../precious"))
    project.run("dvc", "repro", "synthesize@../../../precious", code=255)
    assert not (project.root.parent / "precious").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_dvc_runs_without_the_plan_gets_its_name_as_one_word(project, name):
    project.write_params(with_names("runs", name))
    shutil.copytree(project.root / "data/none", project.root / "data/index")
    (project.root / "data/features/first").mkdir(parents=True)
    (project.root / "data/plan/train").mkdir(parents=True)
    (project.root / f"data/plan/train/{name}.json").write_text("{}", encoding="utf-8")
    output = project.run("dvc", "repro", "--single-item", f"train@{name}", code=255)
    assert "Running stage" in output
    assert "touch: " not in output
    nothing_was_touched(project)
