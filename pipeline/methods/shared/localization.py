"""Base of audio-visual event localization methods: full supervision (segment labels) or weak (clip labels only)."""

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
    """Settings of a method with full supervision (segment labels) or weak supervision (clip labels only).

    ``weak_defaults`` are the defaults that differ under weak supervision, nested like the settings; explicit settings win.
    """

    weak_defaults: ClassVar[Mapping[str, Any]] = {}

    supervision: Literal["full", "weak"] = Field("full", description="full: segment labels | weak: clip labels only")

    @model_validator(mode="before")
    @classmethod
    def _weak_defaults(cls, given: Any) -> Any:
        weak = isinstance(given, Mapping) and given.get("supervision") == "weak"
        return merge(cls.weak_defaults, given) if weak else given

    @property
    def training_labels(self) -> Labels:
        return "segments" if self.supervision == "full" else "video"


class LocalizationMethod(Method):
    """A method that localizes events under full or weak supervision.

    Under weak supervision it accepts only :class:`VideoTargets`, so no segment label can reach training.
    """

    tasks = frozenset({"avel"})
    config: SupervisionConfig

    @property
    def weak(self) -> bool:
        return self.config.supervision == "weak"

    @property
    def clip_labels(self) -> int:
        """Outputs of a clip-level head: C, or C+1 under weak supervision, where a whole clip may be background."""
        return self.num_classes + 1 if self.weak else self.num_classes

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        if self.weak and isinstance(targets, VideoTargets):
            return self.losses_of_videos(batch, targets, progress)
        if not self.weak and isinstance(targets, AvelTargets):
            return self.losses_of_segments(batch, targets, progress)
        raise TypeError(f"{type(self).__name__} with supervision: {self.config.supervision} cannot train on {type(targets).__name__}")

    @abstractmethod
    def predict(self, batch: Batch) -> Scores: ...

    @abstractmethod
    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """The losses under full supervision."""

    @abstractmethod
    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """The losses under weak supervision."""
