"""``make-features --kind unav100``: made numbers of the published shapes under given annotations."""

import json
import sys

import numpy as np
import pytest

from pipeline import __main__ as program
from pipeline.datasets import DatasetSettings, build_index, read_index, write_index
from pipeline.datasets.base import NO_CLIPS
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.importing import Import, ImportSet
from pipeline.features.store import FeatureStore
from pipeline.synth.unav_features import GRID, MadeVideoFeatures, make_video_features, rows_of
from tests.wording import says

SMALL = MadeVideoFeatures(visual=12, audio=64)


def video(subset, duration, *events):
    annotations = [{"segment": [start, end], "label": f"class {number}", "label_id": number} for start, end, number in events]
    return {"subset": subset, "duration": duration, "annotations": annotations}


VIDEOS = {
    "a": video("train", 60.0, (0, 30.05, 0)), "b": video("train", 10.0), "c": video("train", 30.0, (1, 2, 2), (4, 9, 0)),
    "d": video("validation", 20.0, (3, 9, 1)), "e": video("test", 0.5, (0, 0.5, 0)), "f": video("train", 10.0, (2, 3, 1)),
}  # fmt: skip


@pytest.fixture
def annotations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    NO_CLIPS.mkdir(parents=True)
    path = tmp_path / "real" / "unav100_annotations.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"database": VIDEOS}), encoding="utf-8")
    return path.parent


def test_numbers_of_rows_are_those_of_the_published_extraction():
    assert [rows_of(seconds) for seconds in (0.5, 0.96, 1.27, 1.28, 60.0)] == [1, 1, 1, 2, 185]


def test_made_files_are_imported_row_by_row_and_marked(annotations, tmp_path):
    make_video_features(tmp_path / "made", annotations, SMALL)
    stream = {"time": "rows", "shape": [12]}
    chosen = ImportSet.model_validate({
        "directory": tmp_path / "made" / "av_features",
        "visual": {"file": "{id}_rgb.npy", **stream}, "audio": {"file": "{id}_vggish.npy", **stream, "shape": [64]},
        "others": {"motion": {"file": "{id}_flow.npy", **stream}}, "first_seconds": GRID.first_seconds,
    })  # fmt: skip
    data = DatasetSettings(kind="unav100", clips=NO_CLIPS, annotations=tmp_path / "made", segments=192, segment_seconds=0.32)
    (tmp_path / "index").mkdir()
    write_index(build_index(data), tmp_path / "index")
    rows, classes = read_index(tmp_path / "index")
    assert classes == ["class 0", "class 1", "class 2"]
    importing = Import(chosen, data, rows)
    importing.check()
    (tmp_path / "store").mkdir()
    importing.run(tmp_path / "store")
    store = FeatureStore(tmp_path / "store")
    assert store.spec["made_by"] == "python -m pipeline make-features"
    assert store.valid(list(VIDEOS)).sum(axis=1).tolist() == [185, 29, 91, 60, 1, 29]
    sound = store.read("audio", ["a"])[0, :185]
    inside = GRID.seconds(np.arange(185.0)) < 30.05
    assert np.abs(sound[inside].mean(axis=0) - sound[~inside].mean(axis=0)).max() > 0.7


def test_a_small_set_keeps_a_video_of_every_class_for_training(annotations, tmp_path):
    make_video_features(tmp_path / "made", annotations, SMALL.model_copy(update={"every": 4}))
    taken = json.loads((tmp_path / "made" / "unav100_annotations.json").read_text(encoding="utf-8"))["database"]
    assert list(taken) == ["a", "c", "d", "e", "f"]
    assert {path.name[0] for path in (tmp_path / "made" / "av_features").glob("*_flow.npy")} == set(taken)


def test_nothing_is_overwritten_and_faulty_annotations_are_named(annotations, tmp_path):
    with pytest.raises(PipelineError, match="not empty"):
        make_video_features(annotations, annotations, SMALL)
    broken = {**VIDEOS, "g": video("train", 5.0, (1, 9, 0))}
    (annotations / "unav100_annotations.json").write_text(json.dumps({"database": broken}), encoding="utf-8")
    with pytest.raises(InputProblems, match=r"database\.g\.annotations\[0\]\.segment: 1-9 s"):
        make_video_features(tmp_path / "made", annotations, SMALL)
    assert not (tmp_path / "made").exists()


def test_the_command_refuses_a_map(annotations, tmp_path, monkeypatch, capsys):
    words = ["make-features", tmp_path / "made", "--kind", "unav100", "--annotations", annotations, "--positions", "3"]
    monkeypatch.setattr(sys, "argv", ["python -m pipeline", *map(str, words)])
    with pytest.raises(SystemExit):
        program.main()
    assert says(capsys.readouterr().err, "--positions", "UnAV-100")
