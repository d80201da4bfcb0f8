"""Trainings that a child process can import, in place of real ones: what becomes of the processes needs no torch."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pipeline.errors import PipelineError


def stoppable(directory: Path, seed: int, bar) -> None:
    """Note that the seed runs, and which process trains it; run until SIGTERM comes, then leave a checkpoint."""

    def stop(*_: object) -> None:
        (directory / f"{seed}.checkpoint").touch()
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
    with bar(desc=f"seed {seed}", total=3, initial=0, disable=None) as steps:
        steps.update()
        partial = directory / f"{seed}.partial"
        partial.write_text(str(os.getpid()), encoding="utf-8")
        partial.rename(directory / f"{seed}.running")
        time.sleep(120)


def finishing(directory: Path, seed: int, bar) -> None:
    """Count the trainings under way, this one included."""
    mark = directory / f"{seed}.here"
    mark.touch()
    time.sleep(0.3)
    (directory / f"{seed}.count").write_text(f"{len(list(directory.glob('*.here')))} {os.getpid()}", encoding="utf-8")
    mark.unlink()


def failing(directory: Path, seed: int, bar) -> None:
    """Seed 1 finds something wrong as soon as the other runs; the other is stoppable."""
    if seed != 1:
        stoppable(directory, seed, bar)
    while not list(directory.glob("*.running")):
        time.sleep(0.01)
    raise PipelineError("run, seed 1: the loss was not finite")


def faulty(directory: Path, seed: int, bar) -> None:
    raise ZeroDivisionError("a bug")
