"""Watching a training: what goes wrong there never ends it."""

from __future__ import annotations

import json

import pytest
from dvclive import vscode

from pipeline.training.live import LiveMetrics

RECORD = {"epoch": 0, "train/total": 0.5, "val/accuracy": 70.0}


@pytest.fixture
def below_dvc(tmp_path, monkeypatch):
    """A directory that DVCLive takes for a DVC project, as every training of a checkout is below one; returns the mark it leaves there."""
    (tmp_path / ".dvc").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".dvc" / "tmp" / "exps" / "run" / "DVCLIVE_STEP_COMPLETED"


def test_two_trainings_below_one_project_end_at_the_same_moment(below_dvc, monkeypatch, tmp_path, capsys):
    """Both see DVCLive's mark, and the other removes it first."""
    exists = vscode.os.path.exists

    def the_other_ends_now(path):
        seen = exists(path)
        if str(path) == str(below_dvc):
            below_dvc.unlink()
        return seen

    with LiveMetrics(tmp_path / "live" / "seed-0") as live:
        live.log(RECORD)
        assert below_dvc.exists()
        monkeypatch.setattr(vscode.os.path, "exists", the_other_ends_now)
    monkeypatch.undo()
    assert not below_dvc.exists()
    assert json.loads((tmp_path / "live" / "seed-0" / "metrics.json").read_text(encoding="utf-8"))["val"] == {"accuracy": 70.0}
    assert capsys.readouterr().out == ""


def test_a_watcher_that_fails_is_named_once_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    """DVCLive's file cannot be written; the csv logger is untouched."""
    with LiveMetrics(tmp_path / "run" / "seed-0", loggers=["csv"]) as live:
        monkeypatch.setattr(live.watchers["live metrics"], "next_step", (tmp_path / "none" / "file").touch)
        live.log(RECORD)
        live.log({**RECORD, "epoch": 1})
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("no ")]
    assert [line.split(":")[0] for line in told] == ["no live metrics from here on"]
    assert "none/file" in told[0]
    assert len((tmp_path / "run" / "seed-0" / "csv" / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 3
