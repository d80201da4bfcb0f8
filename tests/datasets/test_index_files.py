"""What the index says of files: equal bytes under two ids, and paths that may leave the machine."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline import config
from pipeline.cache import Cache
from pipeline.datasets import DatasetSettings, build_index, read_index, write_index
from pipeline.datasets.base import Index, Row, read_health
from pipeline.errors import PipelineError
from pipeline.made_from import index_params
from pipeline.media.decoding import make_jobs
from pipeline.media.settings import MediaSettings
from stages.decode import without_folders
from tests.wording import each_says

CONTENTS = {"a": b"one", "b": b"two", "c": b"one", "d": b"one", "e": b"three", "f": b"two", "g": b"two"}
SPLITS = {"a": "train", "b": "train", "c": "test", "d": "test", "e": "test", "f": "val", "g": "none"}


@pytest.fixture
def files(tmp_path):
    for name, content in CONTENTS.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    return {name: str(tmp_path / f"{name}.mp4") for name in CONTENTS}


def health_of(rows, directory):
    (directory / "index").mkdir()
    returned = write_index(Index(rows, ["Dog"], ["found before"]), directory / "index")
    written = json.loads((directory / "index" / "health.json").read_text(encoding="utf-8"))
    assert returned == written
    return written


@pytest.mark.fault(14)
def test_equal_bytes_under_two_ids_of_two_splits_are_reported(files, tmp_path):
    rows = [Row(clip, SPLITS[clip], files[clip]) for clip in CONTENTS]
    expected = [("found before",), ("train", "test", "bytes", ": 2 (a = c, a = d)"), ("train", "val", "bytes", ": 1 (b = f)")]
    assert each_says(health_of([*rows, rows[0], Row("lost", "test", None)], tmp_path), expected)


def test_other_windows_and_one_id_in_two_splits_are_not_reported_as_equal_bytes(files, tmp_path):
    rows = [Row("a", "train", files["a"]), Row("a", "test", files["a"]), Row("c", "test", files["c"], start=10.0)]
    assert health_of(rows, tmp_path) == ["found before"]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings of a folder of clips that lies inside or outside the project, named absolutely or from its root."""
    project, outside = tmp_path / "home" / "alice" / "project", tmp_path / "mnt" / "films"
    for folder in (project / "data" / "clips" / "sub", outside / "sub"):
        folder.mkdir(parents=True)
        (folder / "x.mp4").write_bytes(b"film")
    monkeypatch.chdir(project)

    def of(clips):
        return DatasetSettings(kind="folder", clips=clips, annotations=clips, segments=10, segment_seconds=1.0)

    return {"outside": of(outside), "inside": of(project / "data" / "clips"), "relative": of(Path("data/clips"))}


@pytest.mark.parametrize("where", ["outside", "inside", "relative"])
def test_a_published_index_names_no_folder_of_the_machine_and_is_read_from_the_root(settings, tmp_path, where):
    of_clips = settings[where]
    (tmp_path / "index").mkdir()
    index = build_index(of_clips)
    index.health.append(f"links that lead out of the clips directory, refused: 1 ({of_clips.clips}/sub/link.mp4)")
    index.rows.append(Row("lost", "test", None))
    write_index(index, tmp_path / "index", of_clips)
    assert pd.read_parquet(tmp_path / "index" / "index.parquet")["file"][0] == "sub/x.mp4"
    for path in (tmp_path / "index").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    rows, _ = read_index(tmp_path / "index", of_clips.clips)
    assert Path(rows["file"][0]).read_bytes() == b"film"
    assert rows["file"].notna().tolist() == [True, False]


def test_clips_that_move_change_neither_the_index_nor_the_manifest_nor_the_params_of_a_run(settings, tmp_path, repository):
    """So `index` and `decode` run again, and no training."""
    outs, params = set(), config.load(repository / "suites" / "clips.yaml")
    for where, of_clips in settings.items():
        directory = tmp_path / where
        directory.mkdir()
        index = build_index(of_clips)
        index.health.append(f"unreadable: 1 ({of_clips.clips}/sub/x.mp4)")
        write_index(index, directory, of_clips)
        jobs, _ = make_jobs(read_index(directory, of_clips.clips)[0], 10, 1.0, MediaSettings(), Cache(tmp_path / "cache"))
        assert [Path(job.file).read_bytes() for job in jobs.values()] == [b"film"]
        manifest = pd.DataFrame([{"file": job.file, "key": job.key, "reason": f"odd: {job.file}"} for job in jobs.values()])
        made_with = index_params(params.model_copy(update={"dataset": of_clips.model_copy(update={"annotations": Path("labels.csv")})}))
        files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
        outs.add(repr((files, without_folders(manifest, of_clips.clips).to_dict(), made_with)))
    assert len(settings) == 3
    assert len(outs) == 1
    assert "sub/x.mp4" in outs.pop()


def test_a_published_manifest_names_no_folder_of_the_machine_either(settings):
    clips = settings["outside"].clips
    file = f"{clips}/sub/x.mp4"
    manifest = pd.DataFrame({"file": [file, None, file], "reason": [f"Invalid data: '{file}'", "no file of this id", ""]})
    published = without_folders(manifest, clips)
    assert published["file"].fillna("none").tolist() == ["sub/x.mp4", "none", "sub/x.mp4"]
    assert published["reason"].tolist() == ["Invalid data: 'sub/x.mp4'", "no file of this id", ""]


@pytest.mark.parametrize("name", ["classes.json", "health.json"])
def test_a_list_beside_the_index_that_was_changed_is_refused_by_its_name(files, tmp_path, name):
    """The changed list is still valid JSON: one letter of a class, one digit of a count."""
    directory = tmp_path / "index"
    health_of([Row("a", "train", files["a"]), Row("c", "test", files["c"])], tmp_path)
    assert (read_index(directory)[1], len(read_health(directory))) == (["Dog"], 2)
    text = (directory / name).read_text(encoding="utf-8")
    (directory / name).write_text(text.replace("Dog", "Dot").replace("ids: 1", "ids: 3"), encoding="utf-8")
    with pytest.raises(PipelineError, match=rf"^{directory / name} is damaged"):
        (read_index if name == "classes.json" else read_health)(directory)
