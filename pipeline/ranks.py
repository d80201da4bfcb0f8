"""The processes that torchrun starts for one stage, on one machine or several: which of them this one is."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipeline.errors import PipelineError

TOLD = ("RANK", "WORLD_SIZE")  # torchrun's environment; without either of these two, a stage is one process
NEEDED = (*TOLD, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Rank:
    """One of ``count`` processes.

    number: from 0; process 0 alone publishes.
    local: number on its machine, and of the GPU that it uses; beside: processes of its machine.
    """

    number: int = 0
    count: int = 1
    local: int = 0
    beside: int = 1

    @property
    def first(self) -> bool:
        return self.number == 0

    @property
    def several(self) -> bool:
        return self.count > 1


def this_rank() -> Rank:
    """Read which process this is from torchrun's environment; the only one, without it.

    Raises:
        PipelineError: only a part of that environment is there, or it is no such numbers.
    """
    if not any(name in os.environ for name in TOLD):
        return Rank()
    if missing := [name for name in NEEDED if name not in os.environ]:
        present = ", ".join(name for name in NEEDED if name in os.environ)
        raise PipelineError(
            f"the environment has {present} but not {', '.join(missing)}: start several processes with torchrun, or unset what is left"
        )
    try:
        rank = Rank(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
    except ValueError:
        rank = Rank(-1)
    if not (0 <= rank.number < rank.count and 0 <= rank.local < rank.beside <= rank.count):
        stated = ", ".join(f"{name}={os.environ[name]}" for name in NEEDED[:4])
        raise PipelineError(f"the environment says {stated}, which torchrun would not: unset them, or start the stage with torchrun")
    return rank
