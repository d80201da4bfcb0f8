"""What a training shows: lines where there is no terminal, a bar on one, and the loggers that the settings name."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pandas as pd
import pytest
from kills import kill_at
from test_first_network import EVERY_STEP, inputs  # noqa: F401  (a fixture)

from pipeline.errors import PipelineError
from pipeline.training.live import LiveMetrics
from pipeline.training.progress import Bar, Epochs
from pipeline.training.train import train_run
from tests.wording import says

HISTORY = [
    {"epoch": 0, "train/contrast": 0.25, "train/total": 1.23456, "learning_rate": 0.1, "val/accuracy": 70.0, "test/accuracy": 60.0},
    {"epoch": 1, "train/contrast": 0.125, "train/total": 0.5, "learning_rate": 0.1, "val/accuracy": 65.5, "test/accuracy": 61.0},
]


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_an_epochs_line_tells_its_terms_scores_seconds_and_the_time_left(clock):
    """Of 12 epochs, one was done before this start; this one took 30 s, so the ten others take 5 min."""
    epochs = Epochs("accuracy", None, 12, 1)
    clock[0] += 30
    shown, line = epochs.told(HISTORY, best=0)
    assert shown == "loss 0.5, val accuracy 65.50, test accuracy 61.00, kept epoch 1 (70.00)"
    assert line == (
        "epoch 2 of 12; contrast 0.125, total 0.5; val accuracy 65.50, test accuracy 61.00, kept epoch 1 (70.00); 30.0 s, 5 min 00 s left"
    )
    assert epochs.summary(HISTORY, 0, 65.0) == "trained in 1 min 05 s; kept epoch 1 (val accuracy 70.00)"
    assert Epochs("accuracy", "event/A", 12, 1).summary(HISTORY, 1, 65.0) == "trained in 1 min 05 s; kept epoch 2, by event/A"
    assert Epochs("accuracy", "last", 12, 1).summary([{"epoch": 0}], 0, 2.0) == "trained in 2.0 s; kept epoch 1"


def test_on_a_terminal_a_bar_shows_the_scores_and_no_lines_are_printed(monkeypatch, capsys):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", terminal)
    with Bar("run, seed 3", total=4, initial=1) as bar:
        bar.epoch("loss 0.5", "epoch 2 of 4; ...")
        bar.say("trained")
    assert re.search(r"run, seed 3: +50%.*2/4 .*loss 0\.5", terminal.getvalue().split("\r")[-1])
    assert capsys.readouterr().out == "run, seed 3: trained\n"


def test_a_resumed_training_prints_every_epoch_once_and_its_csv_log_is_whole(inputs, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Killed in the second network; a logger starts anew and gets the epochs before."""
    settings = EVERY_STEP.model_copy(update={"loggers": ["csv"]})
    kill_at(monkeypatch, 14)
    (tmp_path / "run").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train_run(inputs, settings, tmp_path / "run", tmp_path / "live")
    train_run(inputs, settings, tmp_path / "run", tmp_path / "live")
    lines = capsys.readouterr().out.splitlines()
    begun = [re.split(r"[;(] ?|,? by", line)[0].strip() for line in lines]
    names = [f"run, seed 3{part}: epoch {number} of 3" for part in (", first network", "") for number in (1, 2, 3)]
    assert [line for line in begun if "epoch" in line] == names
    assert [bool(re.match(r"run, seed 3(, first network)?: trained in .* s; kept epoch", line)) for line in lines].count(True) == 2
    log = pd.read_csv(tmp_path / "live" / "seed-3" / "csv" / "metrics.csv")
    curves = pd.read_csv(tmp_path / "run" / "curves.csv")
    assert list(log["step"]) == [0, 1, 2]
    pd.testing.assert_frame_equal(log.drop(columns="step"), curves.drop(columns=["seed", "epoch"])[list(log.columns.drop("step"))])


def test_a_logger_without_its_package_is_named_before_any_work(inputs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PipelineError) as error:
        train_run(inputs, EVERY_STEP.model_copy(update={"loggers": ["csv", "wandb"]}), tmp_path / "run", tmp_path / "live")
    assert says(str(error.value), "train.loggers", "wandb", "not installed", "[loggers]")
    assert not (tmp_path / "live").exists()


def test_tensorboard_gets_every_epoch_of_a_resumed_training_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="the extra `loggers`")
    for score in (50.0, 65.5):  # the second start is the resumption
        with LiveMetrics(Path(tmp_path) / "run" / "seed-3", HISTORY[:1], ["tensorboard"]) as live:
            live.log({**HISTORY[1], "val/accuracy": score})
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "seed-3" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("val/accuracy")] == [(0, 70.0), (1, 65.5)]
