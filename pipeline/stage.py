"""What every stage does around its work: one at a time, outs published whole, errors told in a sentence.

Nothing here knows DVC: a stage also runs as ``python -m stages.NAME``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.console import console
from pipeline.errors import PipelineError
from pipeline.publish import publishing
from pipeline.settings import name_problem

__all__ = ["only_one", "publishing", "run"]

LOCKS = Path(".locks")


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
    """Run a stage's body; a PipelineError, or a disk that takes no more, becomes a sentence on stderr and exit code 1, an interrupt 130.

    Args:
        takes: what the stage's one argument is, for a stage that has one ("run"); ``body`` gets it. ``STAGE@ARGUMENT`` is taken as well.
    """
    arguments = [argument.rpartition("@")[2] for argument in sys.argv[1:]]
    if len(arguments) != (takes is not None):
        print(f"usage: python -m stages.{name}{f' {takes.upper()}' if takes else ''}", file=sys.stderr)
        sys.exit(2)
    for problem in filter(None, map(name_problem, arguments)):  # before it names a lock
        print(f"{name}: {problem}", file=sys.stderr)
        sys.exit(1)
    with console(f"{name}: ", 1, "interrupted; finished clips and the last checkpoint are kept"), only_one("-".join([name, *arguments])):
        body(*arguments)
