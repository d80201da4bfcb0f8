"""The tiny project, run once from nothing."""

from __future__ import annotations

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
