"""Each film has one complete folder of results; no file's name ends the command or leads out of ``--out``."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.predict import answers, load_run, outputs
from pipeline.publish import check_replaceable
from pipeline.text import distinct_names
from tests.wording import each_says, says

CLIPS = Path("data/raw/tiny/clips")
ANSWERS = {"events.json", "segments.csv", "timeline.png", "attention.png"}
NOT_UTF8 = os.fsdecode(b"caf\xe9.mp4")


@pytest.fixture
def clip(project) -> Path:
    return min((project / CLIPS).iterdir())


def test_names_that_would_be_the_folder_itself_or_the_one_above_are_made_safe():
    assert distinct_names([Path("..mp4"), Path("...mp4"), Path(".mp4"), Path("a/.hidden.mkv"), Path("..")]) == [
        "mp4", "mp4-2", "mp4-3", "hidden", "film",
    ]  # fmt: skip


def test_no_two_files_of_a_call_share_a_folder_and_none_leaves_out():
    names = [
        "a.mp4",
        "a.mp4",
        ".a.mp4",
        "a.mkv",
        "..a",
        "a-2",
        "a.mp4-2",
        "a\n",
        NOT_UTF8,
        "caf_.mp4",
        "caf\u2028.mp4",
        "-.mp4",
        "...",
        " ",
    ]
    given = [Path("x") / name for name in names]
    found = distinct_names(given)
    assert len(set(found)) == len(given)
    for name in found:
        assert Path("out", name).resolve().parent == Path("out").resolve()
        assert name.isprintable()
        name.encode("utf-8")


@pytest.mark.fault(11)
def test_films_named_as_no_text_can_be_and_as_formulas_are_answered_each_and_whole(run, clip, tmp_path):
    films = [tmp_path / name for name in (NOT_UTF8, "cost $x^{$.mp4", "...mp4", "two\nlines.mp4")]
    for film in films:
        shutil.copyfile(clip, film)
    out = tmp_path / "deep" / "out"
    code, printed, err = run(*films, "--run", "cace", "--out", out)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["caf_", "cost $x^{$", "mp4", "two_lines"]
    for folder in out.iterdir():
        assert {path.name for path in folder.iterdir()} == ANSWERS
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert json.loads((out / "caf_" / "events.json").read_text(encoding="utf-8"))["file"] == "caf\\xe9.mp4"
    assert "caf\\xe9.mp4: 0:10, cace seed 1" in printed
    assert "cost $x^{$.mp4: 0:10, cace seed 1" in printed
    assert "two\\nlines.mp4: 0:10" in printed


@pytest.mark.usefixtures("quick_pictures")
def test_an_older_films_answers_do_not_stay_beside_the_new_ones(run, clip, tmp_path):
    older = tmp_path / "out" / clip.stem
    older.mkdir(parents=True)
    (older / "overlay.mp4").write_bytes(b"of another film")
    (older / "events.json").write_text("{}", encoding="utf-8")
    code, _, err = run(clip, "--run", "avel", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert {path.name for path in older.iterdir()} == ANSWERS
    assert json.loads((older / "events.json").read_text(encoding="utf-8"))["run"] == "avel"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [clip.stem]


def test_a_folder_of_the_users_own_is_not_replaced(run, clip, tmp_path):
    own = tmp_path / clip.stem
    own.mkdir()
    (own / "events.json").write_text("{}", encoding="utf-8")
    (own / "thesis.tex").write_text("my work", encoding="utf-8")
    code, out, err = run(clip, "--run", "avel", "--out", tmp_path)
    assert (code, out) == (2, "")
    assert each_says(err.splitlines(), [(f"predict: {own} ", "thesis.tex", "--out")])
    assert sorted(path.name for path in own.iterdir()) == ["events.json", "thesis.tex"]
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(PipelineError, match=re.escape(str(file))):
        check_replaceable(file, outputs.FILES, "the folder of a prediction")


@pytest.mark.usefixtures("quick_pictures")
def test_a_fault_in_the_middle_of_a_folder_leaves_the_older_one_and_answers_the_other_files(run, clip, tmp_path, monkeypatch):
    second = tmp_path / "second.mp4"
    shutil.copyfile(clip, second)
    run(clip, "--run", "avel", "--out", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / clip.stem).iterdir()}
    draw = outputs.timeline.draw

    def fails_once(path, *arguments, **options):
        monkeypatch.setattr(outputs.timeline, "draw", draw)
        raise KeyError("a fault of this program")

    monkeypatch.setattr(outputs.timeline, "draw", fails_once)
    code, out, err = run(clip, second, "--run", "avel", "--seed", "0", "--out", tmp_path / "out")
    assert code == 1
    assert says(err.splitlines()[-1], f"predict: {clip}: ", "KeyError")
    assert "second.mp4: 0:10, avel seed 0" in out
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / clip.stem).iterdir()} == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([clip.stem, "second"])


@pytest.mark.usefixtures("quick_pictures")
def test_a_reader_that_has_gone_ends_the_command_at_once(project, clip, tmp_path, monkeypatch):
    def gone(*_):
        raise BrokenPipeError

    monkeypatch.setattr(answers, "table", gone)
    with pytest.raises(BrokenPipeError):
        answers.answer([clip, clip], load_run("avel"), tmp_path / "out", overlay=False)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_nothing_temporary_is_left_anywhere(run, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    code, _, _ = run(clip, "--run", "cace", "--out", tmp_path / "out", "--overlay")
    assert code == 0
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == [clip.stem]
