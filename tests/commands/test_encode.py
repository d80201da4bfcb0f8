"""``python -m pipeline encode`` on the tiny project: all is in the cache, and the store has the bytes that the stages gave it."""

import argparse

from pipeline.commands.encode import encode
from stages import extract


def test_clips_encoded_ahead_are_found_by_the_stage_and_give_the_same_store(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "fresh"))
    store = project.root / "data/features/second"
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    encode(argparse.Namespace(names=["second"]))
    assert "encode second: 14 clips: 14 ok" in capsys.readouterr().out
    extract.main("second")
    assert "14 clips stored, 0 encoded" in capsys.readouterr().out
    after = {path.name: path.read_bytes() for path in store.iterdir()}
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= {"made_with.json"}
