"""What every method (one paper: networks, losses, inference rule) offers to the training loop and to the tasks.

Shape letters: B batch, T segments of one clip, S spatial positions of the visual map (h*w), C event classes
(background not counted), D feature width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from pipeline.batch import Batch, Tensors
from pipeline.errors import PipelineError
from pipeline.registry import Registry
from pipeline.settings import Settings
from pipeline.tasks.labels import Labels


@dataclass
class Progress:
    """Where training stands: ``epoch`` of ``epochs``, and the ``batch`` of the epoch, counted from 0."""

    epoch: int
    epochs: int
    batch: int = 0


LARGEST_RATE = 10.0  # of learning; beyond it any of the optimizers leaves the numbers of float32 in a few steps


class Recipe(Settings):
    """How a method is trained; each method sets its paper's values as defaults."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0, le=10)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(100, ge=1)
    milestones: tuple[int, ...] = ()
    decay: float = Field(0.5, gt=0, le=1, description="factor on the learning rate at each milestone epoch")
    iteration_milestones: tuple[int, ...] = Field((), description="the same, counted in steps of the optimizer")
    iteration_decay: float = Field(0.1, gt=0, le=1, description="factor at each of those")
    clip_norm: float | None = Field(None, gt=0, description="global gradient norm limit")
    selection: str | None = Field(None, description="metric on validation that picks the epoch | last: the last one; null: the headline")

    @field_validator("learning_rate")
    @classmethod
    def _a_rate_that_can_learn(cls, value: float) -> float:
        """Here, not as a bound of the field, which every paper's recipe states anew."""
        if value > LARGEST_RATE:
            raise ValueError(f"input should be less than or equal to {LARGEST_RATE:g}")
        return value


class MethodConfig(Settings):
    """Base of a method's own settings; ``recipe`` is overridden with the paper's defaults."""

    largest_integer: ClassVar[int] = 2**16  # widths, heads, segments: a matrix of that width takes 16 GiB

    recipe: Recipe = Recipe()

    @property
    def training_labels(self) -> Labels:
        """What the method's training split may tell it."""
        return "segments"

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams of the feature set that the method wants beside the visual and the audio one."""
        return ()

    @property
    def label_streams(self) -> tuple[str, ...]:
        """Streams of the feature set with labels of segments, (C,) in 0..1 each: batches of the training split hold them, and no others."""
        return ()

    @property
    def calibrated_after(self) -> int | None:
        """After which epoch, counted from 1, :meth:`Method.calibrated` sees validation; 0: after the last, with the weights that are kept;
        None: never."""
        return None

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of registered methods whose networks this one holds."""
        return ()

    @property
    def files(self) -> dict[str, Path]:
        """Files that the settings name, by the path of their setting."""
        return dict(_named_files(self.model_dump(), ""))

    @property
    def first(self) -> MethodConfig | None:
        """Settings of a network that is trained first, for :meth:`Method.prepare` to learn from; None without one."""
        return None

    @property
    def first_method(self) -> str | None:
        """Name of that network's method; None: it is the same one."""
        return None


def _named_files(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Path]]:
    for name, value in settings.items():
        if isinstance(value, Path):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping):
            yield from _named_files(value, f"{prefix}{name}.")


class Method(nn.Module):
    """A paper: networks, losses and inference rule.

    Args:
        config: an instance of the class's own ``Config``.
        visual_shape: of one segment, (h, w, D_v) or (D_v,).
        audio_shape: of one segment, (D_a,).
        num_classes: C, without background.
    """

    tasks: ClassVar[frozenset[str]]
    Config: ClassVar[type[MethodConfig]]
    nan_if_unset: ClassVar[frozenset[str]] = frozenset()  # buffers in which NaN has a meaning

    def __init__(self, config: MethodConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.visual_shape = tuple(visual_shape)
        self.audio_shape = tuple(audio_shape)
        self.num_classes = num_classes

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Tensors]]]) -> None:
        """Fill buffers with what the training split tells, once, before training; most methods have none.

        Args:
            first: trained as ``config.first`` says, in eval mode; None where that is None.
            batches: gives the training split, in its order, in batches of the recipe's size.
        """

    def calibrated(self, scores: Any, truth: Any, mask: Tensor) -> dict[str, Tensor]:
        """Buffers, by name, to be stored with the weights: what they are, given what the method says of validation and what is true there.

        Called where ``config.calibrated_after`` says; most methods have none.

        Args:
            scores: of all clips of validation, as :meth:`predict` gives them; truth: the task's targets; mask: (N, T), bool; on the CPU.
        """
        return {}

    @abstractmethod
    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """Named scalar terms and their weighted sum ``"total"``. Masked segments carry no weight in any term.

        ``targets`` are what ``config.training_labels`` says; others raise a TypeError.
        """

    def steps(self, batch: Batch, targets: Tensors, progress: Progress) -> Iterator[dict[str, Tensor]]:
        """What the loop does with a batch: a backward pass through each ``"total"`` and a step of the optimizer, before the next is asked
        for. Parameters that one does not reach are left alone by its step, so that alternating optimizers of equal settings over disjoint
        parameters are the one optimizer over several steps. Schedules count the batch once; terms of the same name are recorded as their
        sum.
        """
        yield self.losses(batch, targets, progress)

    def kept_weights(self) -> dict[str, Tensor]:
        """What is stored of the trained method: all that prediction needs."""
        return self.state_dict()

    def not_finite(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Names of stored tensors with a number that is not finite: such weights are neither kept nor used."""
        suspects = {name: value for name, value in weights.items() if name.rpartition(".")[2] not in self.nan_if_unset}
        return [name for name, value in suspects.items() if not torch.isfinite(value).all()]

    def load_kept(self, weights: Mapping[str, Tensor]) -> None:
        """Take :meth:`kept_weights` back, for prediction; networks that only training needs are dropped."""
        self.load_state_dict(weights)

    @abstractmethod
    def predict(self, batch: Batch) -> Tensors:
        """Scores of a batch, of the task's type; deterministic in eval mode, independent of the other clips of the batch."""


METHODS: Registry[type[Method]] = Registry("method")


def create(
    name: str, *, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
    other_shapes: Mapping[str, tuple[int, ...]] | None = None, **config,
) -> Method:  # fmt: skip
    """Build the registered method ``name`` with its settings.

    Args:
        other_shapes: of one segment, by name, of the further streams that the feature set has; the method takes those it wants, as the
            keyword ``other_shapes``.

    Raises:
        UnknownName: no such method.
        pydantic.ValidationError: a setting that the method does not know, or out of range.
        PipelineError: the method wants a stream that the feature set does not have.
    """
    method_class = METHODS.get(name)
    settings = method_class.Config(**config)
    if not settings.streams:
        return method_class(settings, visual_shape, audio_shape, num_classes)
    have = other_shapes or {}
    if missing := [stream for stream in settings.streams if stream not in have]:
        raise PipelineError(
            f"{name} wants the stream {', '.join(missing)}, and the feature set has {', '.join(['visual', 'audio', *have])}; choose another"
            " feature set, or settings of the method that do without"
        )
    wanted = {stream: have[stream] for stream in settings.streams}
    return method_class(settings, visual_shape, audio_shape, num_classes, other_shapes=wanted)  # type: ignore[call-arg]
