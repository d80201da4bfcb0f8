"""Every stage, and predict, on a disk that is full: one sentence, the old results untouched, and the same bytes once there is room."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from ruamel.yaml import YAML
from tiny_project import FEATURES, NARROW, TINY

from pipeline import stage
from pipeline.__main__ import main as command
from stages import decode, evaluate, extract, finetune, import_features, index, report, synthesize, train
from tests.wording import says

# small, so that the disk can be: its checkpoints are files, too
EYE = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 64, "resize": 64}
FINETUNE = {"visual": EYE, "audio": {"encoder": "logmel"}, "train_last": 1, "width": 8, "epochs": 1, "head_epochs": 1, "batch_size": 4}
PUBLISHED = {"file": "visual.h5", "shape": [32]}
PARAMS = {
    **TINY,
    "media": {**TINY["media"], "keep": "frames"},
    "synth": {"tiny": {"seed": 3, "train_clips": 4, "val_clips": 2, "test_clips": 2, "picture_size": 64}},
    "finetune": {"eye": {**FINETUNE, "batch_norm": "frozen", "device": "cpu", "checkpoint_seconds": 0}},
    "features": {"first": FEATURES},
    "imports": {
        "published": {"directory": "published", "visual": PUBLISHED, "audio": {**PUBLISHED, "file": "audio.h5"}, "dtype": "float32"}
    },
    "methods": {"avel": {"attention_width": 8, "recurrent_width": 8, "classifier_width": 8, "recipe": {**NARROW, "epochs": 2}}},
    "runs": {"run": {"task": "avel", "method": "avel", "features": "first", "seeds": [0], "overrides": {}}},
    "report": {"title": "Tiny", "baseline": None},
    "cache": {"min_free_gb": 0},
}
# stage, its argument, where its outs are
STAGES = [
    (synthesize, "tiny", "data/raw/tiny"),
    (index, None, "data/index"),
    (decode, None, "data/clips"),
    (finetune, "eye", "models/encoders/eye"),
    (extract, "first", "data/features/first"),
    (import_features, "published", "data/features/published"),
    (train, "run", "models/runs/run"),
    (evaluate, "run", "data/results/runs/run"),
    (report, None, "data/results/report"),
]
NAMES = [module.__name__.removeprefix("stages.") for module, _, _ in STAGES]


def run_stage(module, argument, monkeypatch) -> int:
    """Exit code of a stage, run in this process as ``python -m stages.NAME`` runs it."""
    name = module.__name__.removeprefix("stages.")
    monkeypatch.setattr(sys, "argv", [name, *([argument] if argument else [])])
    monkeypatch.setattr(train, "keep_freed_memory", lambda: None)  # this process does more than train
    try:
        stage.run(name, module.main, takes="name" if argument else None)
    except SystemExit as stop:
        return stop.code
    return 0


def bytes_below(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def world(small_disk):
    """A disk of 48 MiB with a project whose every stage has run; nothing else is written anywhere."""
    disk = small_disk(48)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(disk.root)
        patch.setenv("AVEL_CACHE", str(disk.root / "cache"))
        yaml = YAML(typ="safe")
        yaml.default_flow_style = False
        with open("params.yaml", "w", encoding="utf-8") as stream:
            yaml.dump(PARAMS, stream)
        Path("published").mkdir()
        for name in ("visual", "audio"):
            with h5py.File(f"published/{name}.h5", "w") as file:
                file["dataset"] = np.random.default_rng(0).random((8, 10, 32), np.float32)
        for module, argument, _ in STAGES:
            assert run_stage(module, argument, patch) == 0
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
