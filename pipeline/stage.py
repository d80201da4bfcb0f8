"""What every stage does around its work: one at a time, outs published whole, errors told in a sentence.

Nothing here knows DVC: a stage also runs as ``python -m stages.NAME``.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError
from pipeline.settings import name_problem

LOCKS = Path(".locks")


@contextmanager
def publishing(directory: Path, resume: str | None = None) -> Iterator[Path]:
    """A work directory beside ``directory`` that takes its place, by rename, when the block ends well.

    What is under ``directory`` is thus always whole, and no file in it is ever written in place (DVC may have hard-linked it).

    Args:
        resume: a fingerprint of everything the work depends on: what an interrupted run with the same one left is found again.
            None starts empty. Work left by any other run is removed.
    """
    partial = directory.with_name(f".{directory.name}.{(resume or 'fresh')[:16]}.partial")
    for left in directory.parent.glob(f".{glob.escape(directory.name)}.*.partial"):
        if resume is None or left != partial:
            shutil.rmtree(left)
    partial.mkdir(parents=True, exist_ok=True)
    yield partial
    if directory.exists():
        outdated = directory.with_name(f".{directory.name}.outdated.partial")
        os.replace(directory, outdated)
        shutil.rmtree(outdated)
    os.replace(partial, directory)


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold the lock of a stage. A killed ``dvc repro`` can leave its stage running: a second start must not write beside it.

    Raises:
        PipelineError: another process holds the lock.
    """
    LOCKS.mkdir(exist_ok=True)
    lock = FileLock(LOCKS / f"{name}.lock")  # an flock: the system frees it when its holder dies, however it dies
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise PipelineError(
            f"the stage {name} is already running here (an orphan of a killed `dvc repro`?); wait for it, or end it, then run again"
        ) from None


def run(name: str, body: Callable[..., None], takes: str | None = None) -> None:
    """Run a stage's body; a PipelineError becomes its message on stderr and exit code 1, an interrupt exit code 130.

    Args:
        takes: what the stage's one argument is, for a stage that has one ("row"); ``body`` gets it. ``STAGE@ARGUMENT`` is taken as well.
    """
    arguments = [argument.rpartition("@")[2] for argument in sys.argv[1:]]
    if len(arguments) != (takes is not None):
        print(f"usage: python -m stages.{name}{f' {takes.upper()}' if takes else ''}", file=sys.stderr)
        sys.exit(2)
    for problem in filter(None, map(name_problem, arguments)):  # before it names a lock
        print(f"{name}: {problem}", file=sys.stderr)
        sys.exit(1)
    try:
        with only_one("-".join([name, *arguments])):
            body(*arguments)
    except PipelineError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; finished clips and the last checkpoint are kept", file=sys.stderr)
        sys.exit(130)
