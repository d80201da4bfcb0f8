"""Base of cross-modality localization methods."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.methods.base import Method, Progress
from pipeline.tasks.cml import MatchingScores, MatchingTargets


class MatchingMethod(Method):
    """A method of cross-modality localization.

    It encodes the modalities separately: the searched one is known completely, the given one only within the window.
    """

    tasks = frozenset({"cml"})

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        if isinstance(targets, MatchingTargets):
            return self.losses_of_matches(batch, targets)
        raise TypeError(f"{type(self).__name__} cannot train on {type(targets).__name__}")

    @abstractmethod
    def losses_of_matches(self, batch: Batch, targets: MatchingTargets) -> dict[str, Tensor]:
        """Named scalar terms and their sum ``"total"``; clips without an event have nothing to match."""

    @abstractmethod
    def predict(self, batch: Batch) -> MatchingScores: ...
