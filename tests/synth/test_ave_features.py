"""``make-features``: made numbers of the published shapes, and nobody's own files overwritten."""

import hashlib
import sys

import h5py
import numpy as np
import pytest

from pipeline import __main__ as program
from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.base import NO_CLIPS
from pipeline.synth.ave_features import MadeFeatures, make_features
from tests.wording import says

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


def test_features_of_the_published_names_and_shapes_beside_their_annotations(ave, tmp_path):
    before = contents(ave / "annotations")
    made = [tmp_path / name for name in ("first", "again", "other")]
    for directory, seed in zip(made, (0, 0, 1), strict=True):
        make_features(directory, ave / "annotations", SMALL.model_copy(update={"seed": seed}))
    for name, shape in FEATURES.items():
        with h5py.File(made[0] / "features" / name) as file:
            assert file["avadataset"].shape == shape
            assert file["avadataset"].dtype == np.float32
    assert {path.name for path in (made[0] / "features").iterdir()} == set(FEATURES)
    assert contents(ave / "annotations") == before
    first, again, other = (h5py.File(directory / "features" / "audio_feature.h5")["avadataset"][:] for directory in made)
    np.testing.assert_array_equal(again, first)
    assert (other != first).any()


def test_annotations_are_written_thinned(ave, tmp_path):
    make_features(tmp_path / "small", ave / "annotations", SMALL.model_copy(update={"every": 2}))
    made = tmp_path / "small" / "annotations"
    settings = DatasetSettings(kind="ave", clips=NO_CLIPS, annotations=made, segments=10, segment_seconds=1.0, negatives=178)
    index = build_index(settings)
    assert [row.split for row in index.rows[:6]] == ["train"] * 4 + ["val", "test"]
    assert [row.clip for row in index.rows[:6]] == [LINES[number].split("&")[1] for number in range(0, 12, 2)]
    assert h5py.File(tmp_path / "small" / "features" / "audio_feature.h5")["avadataset"].shape[0] == 6


def command(monkeypatch, capsys, *words):
    """(exit code, stdout, stderr) of make-features."""
    monkeypatch.setattr(sys, "argv", ["python -m pipeline", "make-features", *map(str, words)])
    try:
        program.main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_only_a_new_directory_is_written_to(ave, tmp_path, monkeypatch, capsys):
    """Neither published files, nor annotations, nor features made before are overwritten."""
    (ave / "features").mkdir()
    with h5py.File(ave / "features" / "visual_feature.h5", "w") as file:
        file["avadataset"] = np.zeros((12, 10, 3, 3, 8))
    before = {place: contents(place) for place in (ave / "features", ave / "annotations")}
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    small = ["--annotations", ave / "annotations", "--positions", 3, "--visual", 8, "--audio", 6]
    assert command(monkeypatch, capsys, tmp_path / "made", *small)[0] == 0
    before[tmp_path / "made" / "features"] = contents(tmp_path / "made" / "features")
    for directory in (ave, ave / "annotations" / "Annotations.txt", tmp_path / "link", tmp_path / "made"):
        code, _, err = command(monkeypatch, capsys, directory, *small)
        assert code == 2
        assert str(directory) in err
    assert {place: contents(place) for place in before} == before
    assert sorted(path.name for path in ave.iterdir()) == ["annotations", "features"]


def test_the_command_names_the_settings_that_use_them(ave, monkeypatch, capsys):
    code, _, err = command(monkeypatch, capsys, "data/made/ave", "--every", 0, "--visual", 0)
    assert code == 2
    assert says(err, "--every: ", "--visual: ")
    (ave.parent / "data/published").mkdir()
    ave.rename(ave.parent / "data/published/ave")
    code, out, err = command(monkeypatch, capsys, "data/made/ave", "--positions", 3, "--visual", 8, "--audio", 6)
    assert code == 0, err
    assert says(out, "12 rows", "dataset.annotations: data/made/ave/annotations", "data/made/ave/features")
    assert set(contents(ave.parent / "data/made/ave/features")) == set(FEATURES)
