"""``make-features``: made numbers of the published shapes, and nobody's own files overwritten."""

import hashlib
import sys

import h5py
import numpy as np
import pytest

from pipeline import __main__ as program
from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.base import NO_CLIPS
from pipeline.errors import InputProblems
from pipeline.synth.ave_features import MadeFeatures, make_features

LINES = [f"{('Bark', 'Flute')[number % 2]}&clip{number:07d}&good&{number % 4}&{6 + number % 5}" for number in range(12)]
SPLITS = {"trainSet.txt": range(8), "valSet.txt": range(8, 10), "testSet.txt": range(10, 12)}
SMALL = MadeFeatures(positions=3, visual=8, audio=6)
FEATURES = {
    "visual_feature.h5": (12, 10, 3, 3, 8),
    "audio_feature.h5": (12, 10, 6),
    "visual_feature_vec.h5": (12, 10, 8),
    "visual_feature_noisy.h5": (178, 10, 3, 3, 8),
    "audio_feature_noisy.h5": (178, 10, 6),
}


@pytest.fixture
def ave(tmp_path, monkeypatch):
    """A directory whose ``annotations`` are the user's own; the working directory has data/none."""
    monkeypatch.chdir(tmp_path)
    NO_CLIPS.mkdir(parents=True)
    annotations = tmp_path / "ave" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "Annotations.txt").write_text("\n".join(LINES), encoding="utf-8")
    for name, rows in SPLITS.items():
        (annotations / name).write_text("\n".join(LINES[row] for row in rows), encoding="utf-8")
    return tmp_path / "ave"


def contents(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_features_of_the_published_names_and_shapes_under_the_users_annotations(ave):
    before = contents(ave / "annotations")
    make_features(ave, ave / "annotations", SMALL)
    for name, shape in FEATURES.items():
        with h5py.File(ave / "features" / name) as file:
            assert file["avadataset"].shape == shape
            assert file["avadataset"].dtype == np.float32
    assert {path.name for path in (ave / "features").iterdir()} == set(FEATURES)
    assert contents(ave / "annotations") == before
    first = h5py.File(ave / "features" / "audio_feature.h5")["avadataset"][:]
    make_features(ave, ave / "annotations", SMALL)  # its own files are replaced, by the same numbers
    np.testing.assert_array_equal(h5py.File(ave / "features" / "audio_feature.h5")["avadataset"][:], first)
    make_features(ave, ave / "annotations", SMALL.model_copy(update={"seed": 1}))
    assert (h5py.File(ave / "features" / "audio_feature.h5")["avadataset"][:] != first).any()


def test_annotations_from_elsewhere_are_written_thinned_where_there_are_none(ave, tmp_path):
    make_features(tmp_path / "small", ave / "annotations", SMALL.model_copy(update={"every": 2}))
    made = tmp_path / "small" / "annotations"
    settings = DatasetSettings(kind="ave", clips=NO_CLIPS, annotations=made, segments=10, segment_seconds=1.0, negatives=178)
    index = build_index(settings)
    assert [row.split for row in index.rows[:6]] == ["train"] * 4 + ["val", "test"]
    assert [row.clip for row in index.rows[:6]] == [LINES[number].split("&")[1] for number in range(0, 12, 2)]
    assert h5py.File(tmp_path / "small" / "features" / "audio_feature.h5")["avadataset"].shape[0] == 6


@pytest.mark.parametrize("kind", ["published", "text", "directory", "link"])
def test_files_of_the_users_are_named_and_stay(ave, tmp_path, kind):
    features = ave / "features"
    features.mkdir()
    place = features / "visual_feature.h5"
    if kind == "published":
        with h5py.File(place, "w") as file:
            file["avadataset"] = np.zeros((12, 10, 3, 3, 8))
    elif kind == "text":
        place.write_text("mine", encoding="utf-8")
    elif kind == "directory":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "mine.h5")
    with pytest.raises(InputProblems) as caught:
        make_features(ave, ave / "annotations", SMALL)
    [problem] = caught.value.problems
    assert str(features) in problem
    assert "visual_feature.h5" in problem
    assert list(features.iterdir()) == [place]
    assert sorted(path.name for path in ave.iterdir()) == ["annotations", "features"]


def test_annotations_that_are_there_are_never_overwritten(ave, tmp_path, monkeypatch, capsys):
    """Neither other annotations nor their own thinned form replace them; all problems are reported at once."""
    other = tmp_path / "other"
    (other / "annotations").mkdir(parents=True)
    (other / "features").mkdir()
    (other / "features" / "notes.txt").write_text("mine", encoding="utf-8")
    for arguments, named in (
        ([other, "--annotations", ave / "annotations"], ["notes.txt", str(other / "annotations")]),
        ([ave, "--every", 2], ["--every 2", str(ave / "annotations")]),
        ([ave, "--every", 0, "--visual", 0], ["--every: ", "--visual: "]),
    ):
        before = contents(ave / "annotations")
        monkeypatch.setattr(sys, "argv", ["python -m pipeline", "make-features", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            program.main()
        assert stop.value.code == 2
        err = capsys.readouterr().err
        for words in named:
            assert words in err, err
        assert contents(ave / "annotations") == before
        assert not (ave / "features").exists()
    assert not list((other / "annotations").iterdir())


def test_the_command_uses_the_annotations_that_lie_there(ave, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["python -m pipeline", "make-features", str(ave), "--positions", "3", "--visual", "8", "--audio", "6"])
    program.main()
    assert "12 rows" in capsys.readouterr().out
    assert set(contents(ave / "features")) == set(FEATURES)
