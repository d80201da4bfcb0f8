"""The skeleton of every training: epochs of steps, with checkpoints from which a stopped training resumes.

A loop that is killed and started again takes the same steps with the same random numbers as an uninterrupted one.
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
    """The state of a training: plain data and tensors, saved and restored as a whole."""

    epoch: int = 0
    position: int = 0  # number of clips done in this epoch
    best_score: float = -math.inf
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)  # one record per finished epoch
    machines: list[dict[str, Any]] = field(default_factory=list)  # that took part; several if it was resumed elsewhere


State = TypeVar("State", bound=LoopState)


class ResumableLoop(ABC, Generic[State]):
    """Epochs of steps over N clips.

    Args:
        state: the initial state.
        clips: N.
        checkpoint: file to resume from and to write to.
        seconds: shortest time between two checkpoints; 0: one after every step.
        writes: True in exactly one process.
    """

    def __init__(self, state: State, epochs: int, clips: int, checkpoint: Path, seconds: float, writes: bool = True) -> None:
        self.state, self.epochs, self.clips = state, epochs, clips
        self.checkpoints = Checkpoints(checkpoint, seconds, self._content, writes)

    @abstractmethod
    def steps(self) -> Iterator[int]:
        """Take the remaining steps of the current epoch, and yield the number of clips after each."""

    @abstractmethod
    def close_epoch(self) -> None:
        """Record the epoch, validate, keep the best weights, and set the state to the beginning of the next epoch."""

    @abstractmethod
    def tensors(self) -> dict[str, Any]:
        """The rest of a checkpoint: the states of modules, optimizers and schedules."""

    def is_over(self) -> bool:
        return self.state.epoch >= self.epochs

    def resume(self, device: torch.device) -> dict[str, Any] | None:
        """Restore the state and random state from the checkpoint.

        Returns:
            The stored :meth:`tensors`; None if there is no checkpoint.
        """
        content = load_checkpoint(self.checkpoints.path)
        if content is not None:
            self.state = type(self.state)(**content.pop("state"))
        self.state.machines = joined(self.state.machines, this_machine(device))
        return content

    def watching(self) -> AbstractContextManager[None]:
        """During the block, let the current step end when SIGTERM comes."""
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
