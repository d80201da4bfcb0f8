"""The frame around a stage's work: one process at a time, outs published whole, errors printed as a sentence.

It does not depend on DVC; a stage also runs as ``python -m stages.NAME``.
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
from pipeline.ranks import this_rank
from pipeline.settings import name_problem
from pipeline.shards import OPTION, Shard

__all__ = ["only_one", "publishing", "run"]

LOCKS = Path(".locks")


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold the lock of a stage.

    A killed ``dvc repro`` can leave its stage running, and a second process must not write to the same outs.

    Raises:
        PipelineError: another process holds the lock.
    """
    LOCKS.mkdir(exist_ok=True)
    lock = FileLock(LOCKS / f"{name}.lock")  # an flock, which the system frees when its holder dies in any way
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise PipelineError(
            f"the stage {name} is already running here (an orphan of a killed `dvc repro`?); wait for it, or end it, then run again"
        ) from None


def run(name: str, body: Callable[..., None], takes: str | None = None, shards: bool = False, ranks: bool = False) -> None:
    """Run a stage's body; errors become a sentence on stderr and exit code 1, an interrupt exit code 130.

    Args:
        body: called with the stage's argument, if it takes one, and ``shard`` if one is given.
        takes: kind of the stage's one argument ("run"); None if it takes none. ``STAGE@ARGUMENT`` is accepted too.
        shards: whether the stage takes ``--shard i/n``, a share of its work; shares run beside each other and the whole stage.
        ranks: whether several processes of torchrun can share the stage; the first one alone takes its lock.
    """
    arguments, share = sys.argv[1:], list[str]()
    if shards and OPTION in arguments[:-1]:
        place = arguments.index(OPTION)
        share = arguments[place + 1 : place + 2]
        del arguments[place : place + 2]
    arguments = [argument.rpartition("@")[2] for argument in arguments]
    if len(arguments) != (takes is not None):
        usage = f"{f' {takes.upper()}' if takes else ''}{f' [{OPTION} i/n]' if shards else ''}"
        print(f"usage: python -m stages.{name}{usage}", file=sys.stderr)
        sys.exit(2)
    for problem in filter(None, map(name_problem, arguments)):  # before the name is used for a lock
        print(f"{name}: {problem}", file=sys.stderr)
        sys.exit(1)
    with console(f"{name}: ", 1, "interrupted; finished clips and the last checkpoint are kept"):
        shard = {"shard": Shard.parse(share[0])} if share else {}
        rank = this_rank()
        if rank.several and not ranks:
            raise PipelineError(f"torchrun started {rank.count} processes, and this stage is one; only train and finetune can be shared")
        if not rank.first:
            body(*arguments, **shard)
            return
        with only_one("-".join([name, *arguments, *(f"shard-{each.number}-of-{each.count}" for each in shard.values())])):
            body(*arguments, **shard)
