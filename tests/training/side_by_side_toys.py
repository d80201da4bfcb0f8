"""Stand-ins for trainings that a child process can import without torch, to test what happens to the processes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from pathlib import Path

from pipeline.errors import PipelineError


def stoppable(directory: Path, seed: int, bar) -> None:
    """Record the seed and its process, run until SIGTERM, then write a checkpoint."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one that is repeated must not meet the end of the interpreter
        (directory / f"{seed}.checkpoint").touch()
        sys.exit(143)

    gc.collect()  # no finalizer of the interpreter's start is left to swallow the SystemExit
    signal.signal(signal.SIGTERM, stop)
    with bar(desc=f"seed {seed}", total=3, initial=0) as steps:
        steps.epoch("", "")
        partial = directory / f"{seed}.partial"
        partial.write_text(str(os.getpid()), encoding="utf-8")
        partial.rename(directory / f"{seed}.running")
        time.sleep(120)


def finishing(directory: Path, seed: int, bar) -> None:
    """Count the running trainings, including this one."""
    mark = directory / f"{seed}.here"
    mark.touch()
    time.sleep(0.3)
    (directory / f"{seed}.count").write_text(f"{len(list(directory.glob('*.here')))} {os.getpid()}", encoding="utf-8")
    mark.unlink()


def failing(directory: Path, seed: int, bar) -> None:
    """Fail in seed 1 as soon as the other seed runs; the other can be stopped."""
    if seed != 1:
        stoppable(directory, seed, bar)
    while not list(directory.glob("*.running")):
        time.sleep(0.01)
    raise PipelineError("run, seed 1: the loss was not finite")


def faulty(directory: Path, seed: int, bar) -> None:
    raise ZeroDivisionError("a bug")


def dying(directory: Path, seed: int, bar) -> None:
    """Like ``failing``, but die at once when seed 1 is tried first."""
    tried = directory / f"{seed}.tried"
    if seed == 1 and not tried.exists():
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    failing(directory, seed, bar)
