"""Several processes of torchrun at one out: they start from the same code and settings, and the first one publishes.

They share a file system: all see the project's directory at the same path, or on machines of their own at the same relative one.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from pipeline.errors import PipelineError
from pipeline.machine import versions
from pipeline.publish import partial_of, publishing
from pipeline.ranks import Rank

PATIENCE = timedelta(days=365)  # a process may wait for another one's seeds; torchrun ends all when one fails


@dataclass(frozen=True)
class Together:
    """The processes that share a stage.

    Attributes:
        rank: this one.
        gather: call it in all of them; it returns each one's value, by number, once all have called.
    """

    rank: Rank = field(default_factory=Rank)
    gather: Callable[[Any], list[Any]] = lambda value: [value]

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.gather(None)


ALONE = Together()


@contextmanager
def publishing_together(rank: Rank, directory: Path, resume: str) -> Iterator[tuple[Path, Together]]:
    """Provide a work directory to all processes; the first one publishes it when all have done the block.

    Args:
        resume: see :func:`pipeline.publish.publishing`; it must be the same in all processes.

    Raises:
        PipelineError: processes have other code, settings, data or versions, or do not see the work directory.
    """
    if not rank.several:
        with publishing(directory, resume) as partial:
            yield partial, ALONE
        return
    with _meeting(rank) as together:
        _check_same(together, resume)
        if rank.first:
            with publishing(directory, resume) as partial:
                _check_seen(together, partial)
                yield partial, together
                together.wait()
        else:
            together.wait()
            partial = partial_of(directory, resume)
            _check_seen(together, partial, waited=True)
            yield partial, together
            together.wait()


@contextmanager
def _meeting(rank: Rank) -> Iterator[Together]:
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        group = distributed.new_group(backend="gloo", timeout=PATIENCE)

        def gather(value: Any) -> list[Any]:
            found: list[Any] = [None] * rank.count
            distributed.all_gather_object(found, value, group=group)
            return found

        yield Together(rank, gather)
    finally:
        distributed.destroy_process_group()


def _check_same(together: Together, resume: str) -> None:
    hosts, stated, of_versions = zip(*together.gather((platform.node(), resume, versions())), strict=True)
    for what, found in (("code, settings or data", stated), ("versions of packages", of_versions)):
        if others := [f"{number} ({host})" for number, host in enumerate(hosts) if found[number] != found[0]]:
            raise PipelineError(f"the processes {', '.join(others)} have other {what} than process 0 ({hosts[0]}); bring them in line")


def _check_seen(together: Together, partial: Path, waited: bool = False) -> None:
    """Check that the first process's work directory is there for all."""
    if not waited:
        together.wait()  # it exists now
    seen = together.gather((platform.node(), partial.is_dir()))
    if blind := [f"{number} ({host})" for number, (host, there) in enumerate(seen) if not there]:
        raise PipelineError(
            f"the processes {', '.join(blind)} do not see {partial}, which process 0 made: start them in the project's directory, on a"
            " file system that all machines share"
        )
