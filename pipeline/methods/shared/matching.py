"""Methods of cross-modality localization."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.methods.base import Method, Progress
from pipeline.tasks.cml import MatchingScores, MatchingTargets


class MatchingMethod(Method):
    """A method of cross-modality localization. It encodes both modalities apart: of the searched one all is known, of the given one no
    more than the window."""

    tasks = frozenset({"cml"})

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        if isinstance(targets, MatchingTargets):
            return self.losses_of_matches(batch, targets)
        raise TypeError(f"{type(self).__name__} does not train on {type(targets).__name__}")

    @abstractmethod
    def losses_of_matches(self, batch: Batch, targets: MatchingTargets) -> dict[str, Tensor]:
        """The losses; clips without an event belong to nothing that must match."""

    @abstractmethod
    def predict(self, batch: Batch) -> MatchingScores: ...
