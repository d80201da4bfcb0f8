"""Seeds side by side give the same bytes as one after the other, also after kills, stops and failures in between."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import side_by_side_toys as toys
from test_first_network import inputs  # noqa: F401  (a fixture)

from pipeline.errors import PipelineError
from pipeline.training.seeds import train_side_by_side
from pipeline.training.settings import TrainSettings
from pipeline.training.train import train_run
from tests.wording import says

ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(sys.path)}


def until(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.01)


def has_ended(pid):
    try:
        return "Z (zombie)" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def soon(condition, action):
    """Do something from a thread as soon as ``condition()`` holds; signals still reach the main thread."""
    thread = threading.Thread(target=lambda: (until(condition), action()))
    thread.start()
    return thread


# The processes


def test_each_seed_has_a_process_and_no_more_run_than_allowed(tmp_path):
    train_side_by_side(partial(toys.finishing, tmp_path), "run", toys.members(5), at_once=2)
    counts, pids = zip(*((tmp_path / f"{seed}.count").read_text(encoding="utf-8").split() for seed in range(5)), strict=True)
    assert max(map(int, counts)) == 2
    assert len({*pids, str(os.getpid())}) == 6


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.fault(21)
def test_a_request_to_stop_reaches_every_child_and_no_further_seed_starts(tmp_path, number, capfd):
    before = signal.getsignal(number)
    sender = soon(lambda: len(list(tmp_path.glob("*.running"))) == 2, lambda: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as stop:
        train_side_by_side(partial(toys.stoppable, tmp_path), "run", toys.members(3), at_once=2)
    sender.join()
    assert number == signal.SIGINT or stop.value.code == 143
    assert sorted(path.name for path in tmp_path.glob("*.checkpoint")) == ["0.checkpoint", "1.checkpoint"]
    assert not (tmp_path / "2.running").exists()
    assert all(has_ended(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.running"))
    assert capfd.readouterr().err == ""  # nor a progress bar where there is no terminal
    assert signal.getsignal(number) is before


def in_a_parent(directory, **options):
    """A process, with a group of its own, that trains two stoppable seeds, both begun."""
    script = (
        "import signal, sys; from functools import partial; from pathlib import Path; import side_by_side_toys as toys;"
        "from pipeline.training.seeds import train_side_by_side; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: train_side_by_side(partial(toys.stoppable, Path(sys.argv[1])), 'run', toys.members(2), 2)\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    command = [sys.executable, "-c", script, str(directory)]
    parent = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, encoding="utf-8", env=ENVIRONMENT, **options)
    until(lambda: len(list(directory.glob("*.running"))) == 2)
    return parent


def test_ctrl_c_in_a_terminal_reaches_the_children_through_the_parent_alone(tmp_path):
    """The whole group gets SIGINT; a child that handled it would print a traceback and write no checkpoint."""
    parent = in_a_parent(tmp_path)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.communicate(timeout=60)[1] == ""
    assert parent.returncode == 130
    assert len(list(tmp_path.glob("*.checkpoint"))) == 2


def test_a_failure_is_reported_once_and_other_seeds_write_their_checkpoint(tmp_path, capfd):
    with pytest.raises(PipelineError, match=r"^run, seed 1: .*loss"):
        train_side_by_side(partial(toys.failing, tmp_path), "run", toys.members(3), at_once=2)
    assert sorted(path.name for path in tmp_path.glob("*.checkpoint")) == ["0.checkpoint"]
    assert not (tmp_path / "2.running").exists()
    assert has_ended((tmp_path / "0.running").read_text(encoding="utf-8"))
    assert capfd.readouterr().err == ""


def test_a_killed_child_is_reported_with_run_seed_signal_and_advice(tmp_path):
    def kill():
        os.kill(int((tmp_path / "1.running").read_text(encoding="utf-8")), signal.SIGKILL)

    killer = soon(lambda: len(list(tmp_path.glob("*.running"))) == 2, kill)
    with pytest.raises(PipelineError, match=r"^run, seed 1: .*SIGKILL.*machine\.seeds_at_once.*2"):
        train_side_by_side(partial(toys.stoppable, tmp_path), "run", toys.members(2), at_once=2)
    killer.join()
    assert [path.name for path in tmp_path.glob("*.checkpoint")] == ["0.checkpoint"]


def test_sigterm_to_one_child_stops_the_run(tmp_path):
    asker = soon(
        (tmp_path / "1.running").exists, lambda: os.kill(int((tmp_path / "1.running").read_text(encoding="utf-8")), signal.SIGTERM)
    )
    with pytest.raises(SystemExit) as stop:
        train_side_by_side(partial(toys.stoppable, tmp_path), "run", toys.members(2), at_once=2)
    asker.join()
    assert stop.value.code == 143


def test_a_bug_in_a_child_comes_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)run, seed [01], .*Traceback.*toys.*ZeroDivisionError: a bug"):
        train_side_by_side(partial(toys.faulty, Path()), "run", toys.members(2), at_once=2)


def test_one_bar_a_seed_on_a_terminal(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    sender = soon(lambda: len(list(tmp_path.glob("*.running"))) == 2, lambda: (time.sleep(0.5), os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(SystemExit):
        train_side_by_side(partial(toys.stoppable, tmp_path), "run", toys.members(2), at_once=2)
    sender.join()
    shown = capfd.readouterr().err
    assert all(re.search(rf"seed {seed}: +33%.* 1/3", shown) for seed in (0, 1))


def test_children_end_with_a_killed_parent(tmp_path):
    parent = in_a_parent(tmp_path, stdout=subprocess.PIPE)
    children = [(tmp_path / f"{seed}.running").read_text(encoding="utf-8") for seed in (0, 1)]
    parent.kill()
    assert parent.communicate(timeout=60)[1] == ""  # the pipes close when the last child has ended
    until(lambda: all(map(has_ended, children)))
    assert not list(tmp_path.glob("*.checkpoint"))


# Real trainings, of a method with a network trained first


def kill_training_children():
    for child in children_of(os.getpid()):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if "pipeline.training.seeds:serve" in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8"):
                os.kill(child, signal.SIGKILL)


def test_killed_side_by_side_and_resumed_gives_the_bytes_of_one_after_the_other(inputs, tmp_path, capfd):  # noqa: F811
    """Killed when each seed has a checkpoint of its second network; resumed in this process.

    Side by side they read their features from the disk, one after the other from memory.
    """
    settings = TrainSettings(device="cpu", threads=1, checkpoint_seconds=1e6)
    inputs.settings["recipe"]["epochs"] = 4
    inputs = replace(inputs, run=inputs.run.model_copy(update={"seeds": [3, 4]}))
    expected, work, live = tmp_path / "expected", tmp_path / "work", tmp_path / "live"
    expected.mkdir()
    work.mkdir()
    train_run(inputs, settings, expected, live)
    files = {path.name: path.read_bytes() for path in expected.iterdir()}
    assert len(files) == 2 * 2 + 1

    def begun():
        return {path.stem for path in work.glob("seed-*") if path.suffix in (".checkpoint", ".safetensors")}

    capfd.readouterr()
    killer = soon(lambda: len(begun()) == 2, kill_training_children)
    with pytest.raises(PipelineError, match=r"^run, seed [34]: .*SIGKILL"):
        train_run(inputs, settings.model_copy(update={"resident_gb": 0.0, "checkpoint_seconds": 0}), work, live, seeds_at_once=2)
    killer.join()
    first, *lines = "".join(capfd.readouterr()).splitlines()
    assert says(first, "run: features are read from disk", "2 copies")
    assert all(re.match(r"run, seed [34](, first network)?: (epoch \d+ of 4; .*total |trained in )", line) for line in lines), lines
    assert not (work / "curves.csv").exists()
    train_run(inputs, settings, work, live)
    assert {path.name: path.read_bytes() for path in work.iterdir()} == files
