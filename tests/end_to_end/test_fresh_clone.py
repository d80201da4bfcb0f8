"""`dvc repro` in a fresh clone whose params name data that nobody has put there: one sentence for each, before any work."""

from __future__ import annotations

import shutil

import pytest
from tiny_project import Project


@pytest.mark.parametrize(
    ("suite", "settings"),
    [
        ("llp", ["dataset.annotations", "imports.r152_r2p1d_vggish.directory", "imports.clip_clap.directory"]),
        ("clips", ["dataset.clips", "dataset.annotations"]),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(suite, settings, tmp_path, repository):
    project = Project(tmp_path, repository)
    shutil.copy(repository / "suites" / f"{suite}.yaml", project.root / "params.yaml")
    project.commit()
    project.run("dvc", "repro", code=255)
    output = project.run("dvc", "repro", code=255)  # and every time
    for setting in settings:
        (line,) = [line for line in output.splitlines() if f"{setting}: there is no " in line]
        assert "put the" in line
        assert "or correct the path" in line or "or remove the entry" in line
    assert "Traceback" not in output
    assert "Errno" not in output
    assert not project.cache.exists()
    assert "problem" in project.run("python", "-m", "pipeline", "doctor", code=1)


def test_an_index_that_is_here_lets_the_rest_go_on_without_its_sources(tmp_path, repository):
    """As after `dvc pull` of what training reads."""
    project = Project(tmp_path, repository)
    shutil.copy(repository / "suites" / "llp.yaml", project.root / "params.yaml")
    (project.root / "data/index").mkdir(parents=True)
    output = project.run("python", "-m", "stages.plan")
    assert "plan: dataset.annotations: there is no data/published/llp/annotations; put the files there" in output
    assert (project.root / "data/plan/checked.json").is_file()
