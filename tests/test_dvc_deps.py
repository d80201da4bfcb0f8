"""dvc.yaml: every stage depends on all code that can change its numbers, and on no other files."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml

from pipeline.closure import PLUMBING, RECORDS, ROOT, closure

STAGES = yaml.load((ROOT / "dvc.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"]  # in C: every worker reads it
# Registries of which a stage may use every entry; elsewhere the entry's own file of data/plan names the code of those that it chooses.
EVERY_ENTRY = {"index": ["datasets"], "report": ["methods", "tasks"], "plan": ["methods", "tasks", "encoders", "datasets"]}
CHOSEN = {"train": "runs", "evaluate": "runs", "extract": "features", "finetune": "finetune", "label": "labels"}


def body(stage):
    return stage.get("do", stage)


def missing(name, stage):
    """Code of a stage that none of its deps is or holds."""
    entries = [path for room in EVERY_ENTRY.get(name, []) for path in (ROOT / "pipeline" / room).rglob("*.py")]
    deps = [Path(dep) for dep in body(stage)["deps"]]
    cut = set(PLUMBING) - set(RECORDS) if name == "report" else PLUMBING
    needed = closure([Path(f"stages/{name}.py"), *entries], cut=cut)
    return [path.as_posix() for path in needed if not any(path.is_relative_to(dep) for dep in deps)]


@pytest.mark.parametrize("name", STAGES)
def test_no_code_is_missing(name):
    assert missing(name, STAGES[name]) == []


@pytest.mark.parametrize("name", [name for name in STAGES if name != "plan"])  # depends on the whole room: an import may come anywhere
def test_without_any_one_of_its_code_deps_a_stage_would_miss_something(name):
    code = [dep for dep in body(STAGES[name])["deps"] if dep.startswith(("pipeline", "stages"))]
    assert f"stages/{name}.py" in code
    for dep in code:
        stage = copy.deepcopy(STAGES[name])
        body(stage)["deps"].remove(dep)
        found = missing(name, stage)
        assert found, dep
        assert all(Path(path).is_relative_to(dep) for path in found)


@pytest.mark.parametrize("path", ["pipeline/methods/brand_new.py", "pipeline/methods/brand_new/block.py", "pipeline/layers/brand_new.py"])
def test_a_new_method_or_layer_is_a_dep_of_the_plan_and_the_report_alone(path):
    holders = {name for name, stage in STAGES.items() if any(Path(path).is_relative_to(dep) for dep in body(stage)["deps"])}
    assert holders == {"plan", "report"}


@pytest.mark.parametrize(("name", "block"), CHOSEN.items())
def test_what_an_entry_chooses_comes_from_the_plan(name, block):
    assert STAGES[name]["foreach"] == f"${{{block}}}"
    assert f"data/plan/{name}/${{key}}.json" in STAGES[name]["do"]["deps"]


@pytest.mark.parametrize("name", STAGES)
def test_every_path_of_code_exists_and_every_stage_says_what_it_does(name):
    assert body(STAGES[name])["desc"][0].isupper()
    for dep in body(STAGES[name])["deps"]:
        assert (ROOT / dep).exists() or dep.startswith(("data/", "${")) or "${" in dep, dep


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.fault(11)
def test_no_text_of_params_reaches_a_shell(name):
    stage = STAGES[name]
    takes = "foreach" in stage
    assert body(stage)["cmd"] == f"python -m stages.{name}" + (' "$DVC_STAGE"' if takes else "")
    assert not re.search(r"\$\{", body(stage)["cmd"])


def test_every_stage_waits_for_the_plan():
    """Directly, or through an out of a stage that does; only paths without a user's name count, as a name could lead elsewhere."""
    waits = {"plan"}
    fixed = {name: [next(iter(out)) if isinstance(out, dict) else out for out in body(stage)["outs"]] for name, stage in STAGES.items()}
    for _ in STAGES:
        for name, stage in STAGES.items():
            outs = [out for other in waits for out in fixed[other] if "${" not in out]
            if any("${" not in dep and Path(dep).is_relative_to(out) for dep in body(stage)["deps"] for out in outs):
                waits.add(name)
    assert waits == {*STAGES}
