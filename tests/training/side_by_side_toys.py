"""Stand-ins for trainings that a child process can import without torch, to test what happens to the processes."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.training.members import Member, members_of


def members(count: int) -> list[Member]:
    """So many seeds, from 0."""
    return members_of(range(count), None)


def stoppable(directory: Path, member: Member, bar) -> None:
    """Record the seed and its process, run until SIGTERM, then write a checkpoint."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one that is repeated must not meet the end of the interpreter
        (directory / f"{member.key}.checkpoint").touch()
        sys.exit(143)

    gc.collect()  # no finalizer of the interpreter's start is left to swallow the SystemExit
    signal.signal(signal.SIGTERM, stop)
    with bar(desc=str(member), total=3, initial=0) as steps:
        steps.epoch("", "")
        partial = directory / f"{member.key}.partial"
        partial.write_text(str(os.getpid()), encoding="utf-8")
        partial.rename(directory / f"{member.key}.running")
        time.sleep(120)


def finishing(directory: Path, member: Member, bar) -> None:
    """Count the running trainings, including this one."""
    mark = directory / f"{member.key}.here"
    mark.touch()
    time.sleep(0.3)
    (directory / f"{member.key}.count").write_text(f"{len(list(directory.glob('*.here')))} {os.getpid()}", encoding="utf-8")
    mark.unlink()


def failing(directory: Path, member: Member, bar) -> None:
    """Fail in seed 1 as soon as the other seed runs; the other can be stopped."""
    if member.seed != 1:
        stoppable(directory, member, bar)
    while not list(directory.glob("*.running")):
        time.sleep(0.01)
    raise PipelineError("run, seed 1: the loss was not finite")


def faulty(directory: Path, member: Member, bar) -> None:
    raise ZeroDivisionError("a bug")


def dying(directory: Path, member: Member, bar) -> None:
    """Like ``failing``, but die at once when seed 1 is tried first."""
    tried = directory / f"{member.key}.tried"
    if member.seed == 1 and not tried.exists():
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    failing(directory, member, bar)
