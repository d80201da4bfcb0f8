"""`python -m pipeline new`: from films and labels to a project that is ready to run."""

import shutil
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from pipeline import __main__ as program
from pipeline import config
from pipeline.closure import ROOT
from pipeline.datasets import build_index
from pipeline.datasets.base import Event
from pipeline.errors import InputProblems
from pipeline.films.labels import FilmLabels
from pipeline.films.project import Films, film_splits, new_project
from pipeline.media.movie import Form, Scene, write_movie
from pipeline.named_data import missing_data
from tests.wording import one_says, says

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the code is not in a git checkout, which a project is a clone of")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Six films of 4 s, one of 12 s, and three files that are none; labels for six."""
    root = tmp_path_factory.mktemp("new") / "films"
    root.mkdir()
    form = Form(crf=40, sound_rate=8000, sound_bits=8000, repeatable=False)
    for name, seconds in {"long": 12, "f0": 4}.items():
        pictures = np.full((2 * seconds, 32, 32, 3), 90, np.uint8)
        write_movie(root / f"{name}.mp4", [Scene(pictures, np.zeros(8000 * seconds, np.float32), 8000)], Fraction(2), form)
    for number in range(1, 6):
        shutil.copy(root / "f0.mp4", root / f"f{number}.mp4")
    for name in ("torn", "empty", "page"):
        (root / f"{name}.mp4").write_bytes(b"nothing")
    lines = ["long,7,11.5,Dog", "long,1,3,Cat", *(f"f{number},0,3,{'Dog' if number % 2 else 'Cat'}" for number in range(1, 6))]
    (root.parent / "labels.csv").write_text("clip,start,end,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_films_and_labels_become_a_project_that_is_checked_and_whose_next_command_is_printed(films, tmp_path, monkeypatch, capsys):
    project = tmp_path / "my project"
    arguments = ["pipeline", "new", str(project), "--clips", str(films), "--labels", str(films.parent / "labels.csv")]
    monkeypatch.setattr("sys.argv", arguments)
    program.main()
    printed = capsys.readouterr().out.splitlines()
    assert says(printed[-1], f'cd "{project}"', "dvc repro", "python -m pipeline table")
    assert one_says(printed, "torn.mp4 cannot be read")
    assert one_says(printed, "1 films have no labels", "f0.mp4")
    assert one_says(printed, "windows", "several classes", "long.mp4 from 0 s: Cat and Dog")
    monkeypatch.chdir(project)
    params = config.load(project / "params.yaml")
    assert missing_data(params) == []
    assert (params.dataset.segments, params.dataset.segment_seconds, params.dataset.windows) == (10, 1.0, "all")
    assert params.media.max_bad_fraction == 0.3  # 3 of 10, which was said
    assert params.runs.keys() == {"avel_audio", "avel_visual", "avel", "cace_net"}
    assert all(feature_set.visual.options.get("pool", "map") == "map" for feature_set in params.features.values())
    assert params.methods["cace_net"]["recipe"]["batch_size"] == 2
    index = build_index(params.dataset, params.media)
    assert index.classes == ["Cat", "Dog"]
    rows = pd.DataFrame([{"film": row.clip.partition("@")[0], "clip": row.clip, "split": row.split} for row in index.rows])
    assert set(rows["split"]) == {"train", "val", "test", "none"}
    assert (rows.groupby("film")["split"].nunique() == 1).all()
    assert {row.clip: [event.label for event in row.events] for row in index.rows if "long" in row.clip} == {
        "long.mp4@0": ["Cat", "Dog"], "long.mp4@10": ["Dog"],
    }  # fmt: skip


def test_a_directory_in_use_is_left_as_it_is(films, tmp_path):
    used = tmp_path / "used"
    used.mkdir()
    (used / "params.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(InputProblems, match="not overwritten"):
        new_project(used, films, None)
    assert (used / "params.yaml").read_text(encoding="utf-8") == "mine"
    with pytest.raises(InputProblems, match="directory of its own"):
        new_project(films.parent, films, None)


def test_too_few_films_are_refused_before_anything_is_written(films, tmp_path):
    (tmp_path / "labels.csv").write_text("clip,start,end,label\nlong,1,2,Dog\nf1,1,2,Dog\n", encoding="utf-8")
    with pytest.raises(InputProblems, match="no labelled film is in the split"):
        new_project(tmp_path / "project", films, tmp_path / "labels.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv"]


def test_splits_are_drawn_over_the_films_that_can_be_read(tmp_path):
    labels = FilmLabels({f"{name}.mp4": [Event("av", "Dog", 0.0, 1.0)] for name in "abcdef"})
    for seed in range(4):
        splits = film_splits(Films(tmp_path, dict.fromkeys(["b.mp4", "d.mp4", "f.mp4"], 4.0), 0.5, labels), seed)
        assert sorted(splits[f"{name}.mp4"] for name in "bdf") == ["test", "train", "val"]
        assert [splits[f"{name}.mp4"] for name in "ace"] == ["none"] * 3


def test_films_without_labels_become_a_project_of_features(films, tmp_path):
    project = tmp_path / "project"
    assert says(new_project(project, films, None)[-1], "dvc repro")
    params = config.load(project / "params.yaml")
    assert params.runs == {}
    assert params.dataset.annotations == params.dataset.clips == films.resolve()
    assert not (project / "labels.csv").exists()
