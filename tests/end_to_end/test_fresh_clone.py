"""`dvc repro` in a fresh clone whose params name data that nobody has put there: one sentence for each, before any work."""

from __future__ import annotations

import shutil

import pytest
from ruamel.yaml import YAML
from tiny_project import Project

from pipeline.errors import InputProblems
from stages.plan import report_missing
from tests.wording import says


@pytest.mark.fault(40)
def test_what_is_missing_is_named_with_what_to_do(tmp_path, repository, programs):
    project = Project(tmp_path, repository, programs)
    shutil.copy(repository / "suites" / "llp.yaml", project.root / "params.yaml")
    project.commit()
    project.run("dvc", "repro", code=255)
    output = project.run("dvc", "repro", code=255)  # and every time
    params = YAML(typ="safe").load(project.root / "params.yaml")
    named = {f"imports.{name}.directory": entry["directory"] for name, entry in params["imports"].items()}
    named["dataset.annotations"] = params["dataset"]["annotations"]
    for setting, path in named.items():
        (line,) = [line for line in output.splitlines() if says(line, f"{setting}: ", f" {path};")]
        assert says(line, "put", "correct" if setting.startswith("dataset") else "remove"), "it does not say what to do"
    assert "Traceback" not in output
    assert "Errno" not in output
    assert not project.cache.exists()


@pytest.mark.fault(40)
def test_an_index_that_is_here_lets_the_rest_go_on_without_its_sources(tmp_path, monkeypatch, capsys):
    """As after `dvc pull` of what training reads."""
    monkeypatch.chdir(tmp_path)
    report_missing([])
    with pytest.raises(InputProblems, match=r"dataset\.clips: .*\bx$"):
        report_missing(["dataset.clips: there is no x"])
    (tmp_path / "data" / "index").mkdir(parents=True)
    report_missing(["dataset.clips: there is no x"])
    assert capsys.readouterr().err == "plan: dataset.clips: there is no x\n"
