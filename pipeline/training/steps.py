"""Training steps one after another, each with its result known before the next: on a CPU."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.methods import Method, Progress
from pipeline.training.average import WeightAverage


@dataclass(frozen=True)
class Fault:
    """Why a batch was skipped: what was not finite, and the terms of that loss, as far as known."""

    what: str
    terms: dict[str, float]


Outcome = tuple[Tensor, Fault | None]  # rows of a batch; None: its steps were taken


class Steps(ABC):
    """Takes the steps of one training, and adds up their loss terms.

    Args:
        method: the network.
        model, optimizer: as set up by Fabric.
        clip_norm: limit of the gradient's norm.
        average: of the weights, updated after every batch whose steps were taken.
    """

    def __init__(
        self, fabric: Fabric, method: Method, model: Any, optimizer: Any, clip_norm: float | None, average: WeightAverage | None = None
    ) -> None:  # fmt: skip
        self.fabric, self.method, self.model, self.optimizer, self.clip_norm = fabric, method, model, optimizer, clip_norm
        self.average = average

    @abstractmethod
    def begin(self, sums: Mapping[str, float]) -> None:
        """Start an epoch, or resume it with these sums of the loss terms."""

    @abstractmethod
    def take(self, rows: Tensor, batch: Batch, targets: Tensors, progress: Progress) -> bool:
        """Take all steps of the method on one batch; False if one is known to be skipped."""

    @property
    @abstractmethod
    def must_be_read(self) -> bool:
        """Whether :meth:`read` comes before the next step."""

    @abstractmethod
    def read(self) -> tuple[list[Outcome], dict[str, float]]:
        """The batches since the last call, and the epoch's loss terms, summed over the clips of the batches taken."""

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> Iterator[dict[str, Tensor]]:
        """Yield the loss terms of each of the method's optimizer steps on one batch, gradients cleared."""
        steps = self.method.steps(batch, targets, progress)
        while True:
            with self.fabric.autocast():  # not around the backward pass, which has its own precision
                terms = next(steps, None)
            if terms is None:
                return
            self.optimizer.zero_grad(set_to_none=True)
            yield terms

    def release(self) -> None:  # noqa: B027 - nothing, by default
        """Free what only further steps need."""

    def _clipped_norm(self) -> Tensor:
        """Clip the gradients and return their norm."""
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.clip_norm, error_if_nonfinite=False)
        assert norm is not None
        return norm

    def _largest(self, norm_type: float = math.inf) -> Tensor:
        """Norm of the gradients; by default their largest entry."""
        gradients = [weight.grad for weight in self.method.parameters() if weight.grad is not None]
        return torch.nn.utils.get_total_norm(gradients, norm_type=norm_type)


class StepsInTurn(Steps):
    """Takes each step when the outcome of the last is known.

    A batch ends at a loss or gradient that is not finite.
    """

    def begin(self, sums: Mapping[str, float]) -> None:
        self.sums, self.outcomes = dict(sums), list[Outcome]()

    @property
    def must_be_read(self) -> bool:
        return True

    def take(self, rows: Tensor, batch: Batch, targets: Tensors, progress: Progress) -> bool:
        taken = []
        for terms in self.losses(batch, targets, progress):
            fault = "loss" if not torch.isfinite(terms["total"]) else "" if self._update(terms["total"]) else "gradient"
            numbers = {key: float(value.detach()) for key, value in terms.items()}
            if fault:
                self.outcomes.append((rows, Fault(fault, numbers)))
                return False
            taken.append(numbers)
        self.outcomes.append((rows, None))
        if self.average is not None:
            self.average.update()
        for key, value in (item for record in taken for item in record.items()):
            self.sums[key] = self.sums.get(key, 0.0) + value * len(rows)
        return True

    def read(self) -> tuple[list[Outcome], dict[str, float]]:
        outcomes, self.outcomes = self.outcomes, []
        return outcomes, self.sums

    def _update(self, total: Tensor) -> bool:
        """Do backward and an optimizer step; return False, without a step, if a gradient is not finite."""
        self.fabric.backward(total)
        if self.clip_norm is not None:
            norm = self._clipped_norm()
        else:
            norm = self._largest(2.0)  # under 1 % of a step's time; the largest entry takes 20 times as long
            if not torch.isfinite(norm):  # the gradients may be large but finite: a sum of squares can overflow
                norm = self._largest()
        if not torch.isfinite(norm):
            return False
        self.optimizer.step()
        return True
