"""DVC may have hard-linked outs to its cache, read-only: no stage, and no command, ever writes into a file that is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from all_stages import NAMES, PARAMS, STAGES, bytes_below, run_stage, write_params, write_published
from tiny_project import copy_tree

from pipeline.__main__ import main as command

ANOTHER_SEED = 4  # of the demo world: with it every out below is another


def world_of(seed: int) -> dict:
    return {**PARAMS, "synth": {"tiny": {**PARAMS["synth"]["tiny"], "seed": seed}}}


@pytest.fixture(scope="module")
def linked(tmp_path_factory, staged):
    """(project, vault): every out of every stage is a read-only hard link to a file of the vault, as `cache.type: hardlink` makes them."""
    project, vault = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("vault")
    copy_tree(staged, project)
    for _, _, outs in STAGES:
        for path in sorted((project / outs).rglob("*")):
            if path.is_file():
                stored = vault / path.relative_to(project)
                stored.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, stored)
                path.chmod(0o444)
    return project, vault


@pytest.mark.fault(26)
def test_no_stage_writes_into_a_linked_file(linked, monkeypatch):
    project, vault = linked
    monkeypatch.chdir(project)
    monkeypatch.setenv("AVEL_CACHE", str(project / "cache"))
    before = bytes_below(vault)
    assert {Path(path).parts[:2] for path in before} == {Path(outs).parts[:2] for _, _, outs in STAGES}
    write_params(world_of(ANOTHER_SEED))
    write_published(1)
    for (module, argument, outs), name in zip(STAGES, NAMES, strict=True):
        assert run_stage(module, argument, monkeypatch) == 0, name
        assert bytes_below(vault) == before, name
        old = {path.removeprefix(f"{outs}/"): content for path, content in before.items() if path.startswith(f"{outs}/")}
        assert old
        assert bytes_below(project / outs) != old, f"{name} made nothing new, so this says nothing of it"
    for path, content in before.items():
        assert (vault / path).stat().st_mode & 0o777 == 0o444
        assert (vault / path).stat().st_nlink == 1 or (project / path).read_bytes() == content


@pytest.mark.fault(26)
def test_a_linked_text_that_a_command_fills_in_is_replaced_and_keeps_its_rights(linked, monkeypatch, tmp_path):
    project, _ = linked
    monkeypatch.chdir(project)
    text = "# T\n<!-- results -->\n<!-- /results -->\n"
    stored, page = tmp_path / "stored.md", tmp_path / "README.md"
    stored.write_text(text, encoding="utf-8")
    os.link(stored, page)
    page.chmod(0o444)
    monkeypatch.setattr(sys, "argv", ["pipeline", "table", "--into", str(page)])
    command()
    assert stored.read_text(encoding="utf-8") == text
    assert page.stat().st_ino != stored.stat().st_ino
