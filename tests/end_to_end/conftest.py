"""The tiny project, run once from nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny_project import STAGES, TINY, Project


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, repository) -> tuple[Project, dict[str, bytes], str]:
    """(the tiny project run once from nothing, its outs after that run, the output); tests change it and look at what runs again."""
    project = Project(tmp_path_factory.mktemp("tiny"), repository)
    project.write_params(TINY)
    project.commit()
    ran, output = project.repro()
    assert ran == STAGES
    return project, project.outs(), output


@pytest.fixture
def project(tiny: tuple[Project, dict[str, bytes], str]) -> Iterator[Project]:
    """The tiny project; whatever a test changed is put back, so tests do not depend on their order."""
    tiny_project, _, _ = tiny
    yield tiny_project
    tiny_project.write_params(TINY)
    tiny_project.repro()
