"""Methods of audio-visual event localization, which learn from the labels of segments (full) or from those of clips alone (weak)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.methods.base import Method, MethodConfig, Progress
from pipeline.settings import merge
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import Labels, VideoTargets


class SupervisionConfig(MethodConfig):
    """Settings of a method that learns from the labels of segments (full) or from those of clips alone (weak).

    ``weak_defaults`` are the defaults that differ under weak supervision, nested as the settings; what is set explicitly wins.
    """

    weak_defaults: ClassVar[Mapping[str, Any]] = {}

    supervision: Literal["full", "weak"] = Field("full", description="full: labels of segments | weak: of clips only")

    @model_validator(mode="before")
    @classmethod
    def _weak_defaults(cls, given: Any) -> Any:
        weak = isinstance(given, Mapping) and given.get("supervision") == "weak"
        return merge(cls.weak_defaults, given) if weak else given

    @property
    def training_labels(self) -> Labels:
        return "segments" if self.supervision == "full" else "video"


class LocalizationMethod(Method):
    """A method that localizes events under either supervision. Weakly supervised it takes :class:`VideoTargets` and refuses all else, so
    that no label of a segment can reach its training."""

    tasks = frozenset({"avel"})
    config: SupervisionConfig

    @property
    def weak(self) -> bool:
        return self.config.supervision == "weak"

    @property
    def clip_labels(self) -> int:
        """Outputs of a clip-level head: C, or C+1 under weak supervision, where a clip may be background as a whole."""
        return self.num_classes + 1 if self.weak else self.num_classes

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        if self.weak and isinstance(targets, VideoTargets):
            return self.losses_of_videos(batch, targets, progress)
        if not self.weak and isinstance(targets, AvelTargets):
            return self.losses_of_segments(batch, targets, progress)
        raise TypeError(f"{type(self).__name__} with supervision: {self.config.supervision} does not train on {type(targets).__name__}")

    @abstractmethod
    def predict(self, batch: Batch) -> Scores: ...

    @abstractmethod
    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """The losses under full supervision."""

    @abstractmethod
    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """The losses under weak supervision."""
