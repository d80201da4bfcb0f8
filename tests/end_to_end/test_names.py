"""Names of params.yaml that are commands or paths, under real `dvc` commands: nothing runs, and nothing is removed."""

from __future__ import annotations

import copy
import re

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
    "labels": {"features": "first", "teachers": "first"},
    "runs": TINY["runs"]["avel_first"],
}
COMMANDS = ("x; touch y; true ", "x'; touch y; '", '"; touch y; "', "$(touch y)", "x\ntouch y\n", "x & touch y &")


@pytest.fixture
def project(tmp_path, repository, programs):
    """A fresh working copy, nothing run yet, and beside it a folder that is not the project's."""
    project = Project(tmp_path, repository, programs)
    project.run("git", "init", "-q")
    for block in ENTRIES:
        (tmp_path / f"precious-{block}").mkdir()
        (tmp_path / f"precious-{block}" / "thesis.txt").write_text("ten years", encoding="utf-8")
    return project


def climbing(block):
    """A name by which an out of the block's stage is the folder beside the project; for runs, that of `evaluate`."""
    return f"{'../' * (4 if block == 'runs' else 3)}precious-{block}"


def with_names(names):
    """TINY with bad names, by block."""
    params = copy.deepcopy(TINY)
    for block, bad in names.items():
        params[block] |= dict.fromkeys(bad, ENTRIES[block])
    return params


def nothing_was_touched(project):
    for block in ENTRIES:
        assert (project.root.parent / f"precious-{block}" / "thesis.txt").read_text(encoding="utf-8") == "ten years"
    assert not list(project.root.rglob("y"))


@pytest.mark.fault(15)
def test_names_that_are_commands_or_paths_are_refused_before_anything_is_done(project):
    """With --keep-going DVC runs every stage that does not wait for a failed one: none is left."""
    names = {block: [climbing(block), *(f"{block} {command}" for command in COMMANDS)] for block in ENTRIES}
    project.write_params(with_names(names))
    for how in ([], ["--keep-going"]):
        output = project.run("dvc", "repro", *how, code=255)
        assert re.findall("Running stage '(.*)'", output) == ["plan"]
        assert "Traceback" not in output
        for block in ENTRIES:
            assert f"{block}.{climbing(block)}: " in output
            assert f"{block}.{block} x; touch y; true : " in output
        nothing_was_touched(project)


def test_it_is_the_plan_that_protects(project):
    """Without it DVC itself removes the folder, before any code of the project runs: the test above can fail."""
    text = (project.root / "dvc.yaml").read_text(encoding="utf-8")
    assert text.count("- data/plan/checked.json\n") == 2
    (project.root / "dvc.yaml").write_text(text.replace("- data/plan/checked.json\n", "- stages/paths.py\n"), encoding="utf-8")
    project.write_params(with_names({"synth": [climbing("synth")]}))
    project.run("dvc", "repro", f"synthesize@{climbing('synth')}", code=255)
    assert not (project.root.parent / "precious-synth").exists()


def test_a_command_that_dvc_runs_without_the_plan_gets_its_name_as_one_word(project):
    project.write_params(with_names({"synth": COMMANDS}))
    (project.root / "data/plan").mkdir(parents=True)
    (project.root / "data/plan/checked.json").write_text("{}", encoding="utf-8")
    stages = [f"synthesize@{name}" for name in COMMANDS]
    output = project.run("dvc", "repro", "--single-item", "--keep-going", *stages, code=255)
    assert output.count("Running stage") == len(COMMANDS)
    nothing_was_touched(project)


def test_params_that_are_refused_leave_the_last_good_plan(project):
    project.write_params(TINY)
    project.run("dvc", "repro", "plan")
    plan = {name: content for name, content in project.outs().items() if name.startswith("data/plan/")}
    project.write_params(with_names({"runs": ["v1.0"]}))
    assert "runs.v1.0: " in project.run("dvc", "repro", code=255)
    assert {name: content for name, content in project.outs().items() if name.startswith("data/plan/")} == plan
    project.write_params(TINY)
    assert "up to date" in project.run("dvc", "status", "plan")
    narrow = copy.deepcopy(TINY)
    del narrow["runs"]["cace_first"]
    project.write_params(narrow)
    project.run("dvc", "repro", "plan")
    assert set(plan) - set(project.outs()) == {"data/plan/train/cace_first.json", "data/plan/evaluate/cace_first.json"}
