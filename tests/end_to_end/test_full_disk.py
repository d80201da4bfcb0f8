"""Every stage, and predict, on a disk that is full: one sentence, the old results untouched, and the same bytes once there is room."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
from all_stages import NAMES, STAGES, bytes_below, run_stage
from tiny_project import copy_tree

from pipeline.__main__ import main as command
from stages import report, synthesize
from tests.wording import says


@pytest.fixture(scope="module")
def world(small_disk, staged):
    """A disk of 48 MiB with a project whose every stage has run; nothing else is written anywhere."""
    disk = small_disk(48)
    copy_tree(staged, disk.root)
    gc.collect()
    gc.freeze()  # what each test's own collection need not look through
    yield disk
    gc.unfreeze()


@pytest.fixture
def full(world, monkeypatch):
    monkeypatch.chdir(world.root)
    monkeypatch.setenv("AVEL_CACHE", str(world.root / "cache"))
    gc.collect()  # an unnamed temporary file of the test before would give its room back in the middle of this one
    yield world
    world.empty()


def check_sentence(err: str, name: str, place: Path) -> None:
    [line] = [line for line in err.splitlines() if line.startswith(f"{name}: ")]
    assert "Traceback" not in err
    assert says(line, f"{name}: ", "full", "run again")
    named = line.removeprefix(f"{name}: ").split(" ", maxsplit=1)[0]
    assert Path(named).resolve().is_relative_to(place), line


CASES = [(stage, 0) for stage in STAGES] + [(stage, 8192) for stage in STAGES if stage[0] not in (synthesize, report)]  # those are slow


@pytest.mark.parametrize(("chosen", "leave"), CASES, ids=[f"{NAMES[STAGES.index(stage)]}-{leave}" for stage, leave in CASES])
@pytest.mark.fault(22)
def test_a_stage(chosen, leave, full, monkeypatch, capsys):
    module, argument, outs = chosen
    directory = full.root / outs
    if module is report:  # it tells how long the last training took
        assert run_stage(module, argument, monkeypatch) == 0
    before = bytes_below(directory)
    assert before
    full.fill(leave)
    code, name = run_stage(module, argument, monkeypatch), module.__name__.removeprefix("stages.")
    err = capsys.readouterr().err
    if leave == 0 or code:
        assert code == 1, err
        check_sentence(err, name, full.root)
    assert bytes_below(directory) == before
    full.empty()
    assert run_stage(module, argument, monkeypatch) == 0
    assert bytes_below(directory) == before
    assert not [path for path in directory.parent.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize("name", ["decode", "extract"])
@pytest.mark.fault(22)
def test_an_empty_cache_on_a_full_disk(name, full, monkeypatch, capsys):
    """What is written here goes into the cache, by children (decode) or by threads (extract).

    The stage stops before its work; if another program fills the disk meanwhile, it stops in the middle.
    """
    module, argument, outs = STAGES[NAMES.index(name)]
    kind = {"decode": "decoded", "extract": "features"}[name]
    entries = bytes_below(full.root / "cache" / kind)
    size = sum(map(len, entries.values()))
    before = bytes_below(full.root / outs)
    for path in (full.root / "cache" / kind).rglob("*.npz"):
        path.unlink()
    full.fill(leave=size // 2)
    assert run_stage(module, argument, monkeypatch) == 1
    err = capsys.readouterr().err
    check_sentence(err, name, full.root)
    assert says(err, str(full.root / "cache"), "missing", {"decode": "media.keep: verdicts", "extract": "features.first.visual"}[name])
    assert not bytes_below(full.root / "cache" / kind)
    monkeypatch.setattr(module, "check_room", lambda *_: None)
    code = run_stage(module, argument, monkeypatch)
    err = capsys.readouterr().err
    assert (code, "Traceback" in err) == (1, False), err
    assert says(err, "still to be done", "missing")
    assert any(says(line, str(full.root / "cache"), "full", "free there", "more are needed") for line in err.splitlines()), err
    kept = bytes_below(full.root / "cache" / kind)
    assert 0 < len(kept) < len(entries)  # what was finished
    assert kept.items() <= entries.items()
    assert bytes_below(full.root / outs) == before
    full.empty()
    assert run_stage(module, argument, monkeypatch) == 0
    assert bytes_below(full.root / "cache" / kind) == entries
    assert bytes_below(full.root / outs) == before


@pytest.mark.fault(22)
def test_predict(full, monkeypatch, capsys, tmp_path):
    clips = sorted((full.root / "data/raw/tiny/clips").glob("*.mp4"))[:2]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # frames are decoded elsewhere; the answers have no room

    def predict(*arguments):
        monkeypatch.setattr(sys, "argv", ["pipeline", "predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            command()
        return stop.value.code, capsys.readouterr()

    assert predict(clips[0], "--run", "run")[0] == 0
    before = bytes_below(full.root / "predictions")
    full.fill()
    code, (out, err) = predict(*clips, "--run", "run")
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 2
    for clip, line in zip(clips, lines, strict=True):
        assert says(line, f"predict: {clip}: predictions", "full")
    assert bytes_below(full.root / "predictions") == before
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", str(full.root))
    code, (out, err) = predict(clips[0], "--run", "run")
    assert (code, "Traceback" in err) == (2, False)
    full.empty()
    assert predict(clips[1], "--run", "run")[0] == 0
