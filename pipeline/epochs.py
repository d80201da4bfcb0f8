"""The skeleton of every training: epochs of steps, checkpoints between them, and an end that may come after any step.

A loop that is killed and started again takes the same steps with the same random numbers as one that never was.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from pipeline.checkpoints import Checkpoints, load_checkpoint
from pipeline.machine import joined, this_machine


@dataclass
class LoopState:
    """Where a training stands: plain data and tensors, saved and restored as a whole."""

    epoch: int = 0
    position: int = 0  # clips of this epoch's order that are done
    best_score: float = -math.inf
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)  # a record of every epoch that is over
    machines: list[dict[str, Any]] = field(default_factory=list)  # each that took part, several where the training went on on another


State = TypeVar("State", bound=LoopState)


class ResumableLoop(ABC, Generic[State]):
    """Epochs of steps over N clips.

    Args:
        state: of a training that has not begun.
        clips: N.
        checkpoint: file to resume from and to write to.
        seconds: least time between two checkpoints; 0: one after every step.
        writes: False in all processes but one.
    """

    def __init__(self, state: State, epochs: int, clips: int, checkpoint: Path, seconds: float, writes: bool = True) -> None:
        self.state, self.epochs, self.clips = state, epochs, clips
        self.checkpoints = Checkpoints(checkpoint, seconds, self._content, writes)

    @abstractmethod
    def steps(self) -> Iterator[int]:
        """Take the remaining steps of the current epoch, and yield after each how many clips it took."""

    @abstractmethod
    def close_epoch(self) -> None:
        """Record the epoch, validate, keep the best weights, and set the state to the beginning of the next epoch."""

    @abstractmethod
    def tensors(self) -> dict[str, Any]:
        """What a checkpoint holds beside the state: the states of modules, optimizers and schedules."""

    def is_over(self) -> bool:
        return self.state.epoch >= self.epochs

    def resume(self, device: torch.device) -> dict[str, Any] | None:
        """Take state and random state from the checkpoint; returns what :meth:`tensors` gave, None where there is no checkpoint."""
        content = load_checkpoint(self.checkpoints.path)
        if content is not None:
            self.state = type(self.state)(**content.pop("state"))
        self.state.machines = joined(self.state.machines, this_machine(device))
        return content

    def watching(self) -> AbstractContextManager[None]:
        """Let the step under way end when SIGTERM comes, for the length of the block."""
        return self.checkpoints.watching()

    def run_epochs(self, show: Callable[[], object]) -> None:
        """Train to the end; ``show`` is called after every epoch.

        Raises:
            SystemExit: 143 after SIGTERM, with a checkpoint written.
        """
        while not self.is_over():
            for taken in self.steps():
                self.state.position += taken
                if self.checkpoints.stopping or self.state.position < self.clips:
                    self.checkpoints.offer()
            self.close_epoch()
            show()
            self.checkpoints.offer()

    def _content(self) -> dict[str, Any]:
        return {"state": vars(self.state), **self.tensors()}
