"""Experiments that DVC runs in directories of their own, as it does with those of a queue, find the user's data of relative paths."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_reruns import Outline

from pipeline import config
from pipeline.ablations import fetched
from pipeline.errors import InputProblems
from stages.origin import link_data, origin

DATA = {
    "clips": ["../shared/clips/first.mp4"],
    "ave-supervised": ["data/published/ave/annotations/Annotations.txt", "data/published/ave/features/visual_feature.h5"],
}


@pytest.mark.parametrize(("suite", "files"), DATA.items(), ids=DATA)
def test_relative_paths_mean_what_they_mean_in_the_project(tmp_path, repository, programs, monkeypatch, suite, files):
    project = Outline(tmp_path, repository, programs)
    project.replace_commands()
    params = YAML(typ="safe").load((repository / "suites" / f"{suite}.yaml").read_text(encoding="utf-8"))
    params["runs"] = dict(list(params["runs"].items())[:1])
    project.write_params(params | {"report": {}})
    project.commit()
    for file in files:
        (project.root / file).parent.mkdir(parents=True, exist_ok=True)
        (project.root / file).write_text(f"the user's {file}", encoding="utf-8")
    project.run("dvc", "exp", "run", "--temp", "--name", "elsewhere")
    if suite == "clips":
        project.run("dvc", "exp", "apply", "elsewhere")
        assert project.ran() == {"plan"}  # whose out belongs to a directory; all others came with the experiment
    if suite == "ave-supervised":  # and DVC can track what lies there
        project.run("dvc", "add", "-q", "data/published/ave")
        [run] = params["runs"]
        commit = project.run("git", "for-each-ref", "--format=%(objectname)", "refs/exps/**/elsewhere").strip()
        with monkeypatch.context() as inside:
            inside.chdir(project.root)
            made = fetched(Path.cwd(), commit, run, tmp_path / "fetched")  # as a table of ablations takes it from DVC's cache
        assert (list(made["runs"]), [path.name for path in (tmp_path / "fetched" / run).iterdir()]) == ([run], ["clips"])
        assert not (project.root / "data/results/runs" / run).exists()
        shutil.rmtree(project.root / "data/published/ave")
        project.run("dvc", "checkout", "-q", "data/published/ave.dvc")
        assert "data/published/ave.dvc" in project.run("git", "status", "--short", "-uall")
    assert all((project.root / file).read_text(encoding="utf-8") == f"the user's {file}" for file in files)


def test_links_lead_to_the_data_or_the_setting_is_named(tmp_path, repository):
    above = tmp_path / "a/b/c/d"
    project, root = above / "project", above / "project/.dvc/tmp/exps/standalone/tmp1"
    assert origin(root) == project
    assert origin(project) is None
    assert origin(Path("/.dvc/tmp/exps")) is None
    (root / "data").mkdir(parents=True)
    weights = project / "models/pretrained/own.pth"
    films = above / "films"
    for path in (weights, films / "a.mp4", root.parent / "run" / "b.mp4", above / "run" / "c.mp4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name, encoding="utf-8")
    params = config.load(repository / "suites" / "clips.yaml")

    def with_data(clips, annotations):
        return params.model_copy(update={"dataset": params.dataset.model_copy(update={"clips": clips, "annotations": annotations})})

    for _ in range(2):  # the second experiment finds the first one's link
        link_data(with_data(Path("../films"), films), root)
        assert (root / "../films/a.mp4").read_text(encoding="utf-8") == "a.mp4"
        assert (root / "models/pretrained/own.pth").samefile(weights)
    (root.parent / "films").unlink()
    (root.parent / "films").symlink_to(above / "moved")  # of an earlier experiment
    link_data(with_data(Path("../films"), films), root)
    assert (root / "../films/a.mp4").is_file()
    link_data(with_data(Path("../nowhere"), Path("data")), root)  # missing in the project too: another message
    (tmp_path / "a/far").mkdir()
    for path in ("../run", "../../../../far"):  # a directory of DVC's, and a place among its own files
        with pytest.raises(InputProblems) as caught:
            link_data(with_data(Path(path), films), root)
        assert [problem.split(": ")[0] for problem in caught.value.problems] == ["dataset.clips"]
