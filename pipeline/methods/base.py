"""The interface between a method (one paper: networks, losses, inference rule) and the training loop and tasks.

Shape letters: B batch, T segments of one clip, S spatial positions of the visual map (h*w), C event classes
(background not counted), D feature width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from pipeline.batch import Batch, Tensors
from pipeline.errors import PipelineError
from pipeline.registry import Registry
from pipeline.settings import Settings
from pipeline.tasks.labels import Labels


@dataclass
class Progress:
    """Position in training: ``epoch`` of ``epochs`` and ``batch`` of the epoch, both counted from 0."""

    epoch: int
    epochs: int
    batch: int = 0


Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
LARGEST_RATE = 10.0  # learning rate; above it every optimizer overflows float32 within a few steps


class Recipe(Settings):
    """Training settings; each method sets its paper's values as defaults."""

    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="rule of the steps")
    betas: Betas = Field((0.9, 0.999), description="decay of the running means of the gradient and of its square (adam, adamw)")
    learning_rate: float = Field(1e-3, gt=0, description="at the start, at most 10")
    rate_factors: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        {}, description="factors on the learning rate of parts of the network, for methods that name such parts"
    )
    weight_decay: float = Field(0.0, ge=0, le=10, description="of the optimizer")
    batch_size: int = Field(64, ge=1, description="clips in a step")
    epochs: int = Field(100, ge=1, description="passes over the training split")
    milestones: tuple[int, ...] = Field((), description="epochs after which the learning rate falls by `decay`")
    decay: float = Field(0.5, gt=0, le=1, description="factor on the learning rate at each milestone epoch")
    iteration_milestones: tuple[int, ...] = Field((), description="milestones counted in optimizer steps")
    iteration_decay: float = Field(0.1, gt=0, le=1, description="factor at each iteration milestone")
    warmup_epochs: float = Field(
        0.0, ge=0, description="epochs in which the learning rate rises from 0: step by step (cosine), epoch by epoch (warmup_cosine)"
    )
    schedule: Literal["milestones", "cosine", "warmup_cosine"] = Field(
        "milestones",
        description="cosine: falls to 1e-8 along a cosine, step by step | warmup_cosine: to `minimum`, epoch by epoch",
    )
    minimum: float = Field(0.0, ge=0, description="learning rate of the last epoch (schedule: warmup_cosine)")
    decayed: Literal["all", "matrices"] = Field("all", description="weights that decay; matrices: no biases, norms and scales")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of a moving average of the weights, which then is what is validated and stored; null: none"
    )
    ema_warmup: bool = Field(True, description="in step k the decay is at most (1 + k) / (10 + k), so a short training is averaged too")
    clip_norm: float | None = Field(None, gt=0, description="global gradient norm limit")
    selection: str | None = Field(None, description="validation metric that picks the epoch | last: the last epoch; null: the headline")

    @field_validator("learning_rate")
    @classmethod
    def _a_rate_that_can_learn(cls, value: float) -> float:
        """Check the upper bound here, because every paper's recipe redefines the field."""
        if value > LARGEST_RATE:
            raise ValueError(f"input should be less than or equal to {LARGEST_RATE:g}")
        return value

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.schedule != "milestones" and (self.milestones or self.iteration_milestones):
            raise ValueError(f"schedule: {self.schedule} has no milestones; leave milestones and iteration_milestones empty")
        if self.schedule == "milestones" and self.warmup_epochs:
            raise ValueError("warmup_epochs needs schedule: cosine or warmup_cosine")
        if self.minimum and (self.schedule != "warmup_cosine" or self.minimum > self.learning_rate):
            raise ValueError(f"minimum {self.minimum:g} needs schedule: warmup_cosine and a learning_rate of at least as much")
        return self

    @model_validator(mode="after")
    def _betas_of_adam(self) -> Self:
        if self.optimizer == "sgd" and self.betas != (0.9, 0.999):
            raise ValueError("betas are those of adam and adamw; sgd has none")
        return self


class MethodConfig(Settings):
    """Base class of a method's settings; subclasses override ``recipe`` with the paper's defaults."""

    largest_integer: ClassVar[int] = 2**16  # widths, heads, segments: a square matrix of this size takes 16 GiB
    rated_parts: ClassVar[tuple[str, ...]] = ()  # the method's modules that may have a factor in `recipe.rate_factors`

    recipe: Recipe = Field(Recipe(), description="settings of the training")

    @model_validator(mode="after")
    def _rated_parts_exist(self) -> Self:
        if unknown := sorted(self.recipe.rate_factors.keys() - set(self.rated_parts)):
            known = f"choose from: {', '.join(self.rated_parts)}" if self.rated_parts else "this method names none; leave it empty"
            raise ValueError(f"recipe.rate_factors: {', '.join(unknown)}: no such part; {known}")
        return self

    @property
    def training_labels(self) -> Labels:
        """Kind of labels that the method trains on."""
        return "segments"

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams of the feature set that the method needs beside the visual and the audio stream."""
        return ()

    @property
    def label_streams(self) -> tuple[str, ...]:
        """Streams that hold segment labels, (C,) in 0..1 per segment; only batches of the training split contain them."""
        return ()

    @property
    def attends_to_positions(self) -> bool:
        """Whether the method weighs the positions of the visual map."""
        return False

    @property
    def tied_segments(self) -> int | None:
        """T, if the method's network takes clips of this number of segments alone; None if any will do."""
        return None

    @property
    def calibrated_after(self) -> int | None:
        """Epoch, counted from 1, after which :meth:`Method.calibrated` is called on the validation scores.

        0: after training, with the kept weights. None: never.
        """
        return None

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of registered methods whose networks this method contains."""
        return ()

    @property
    def files(self) -> dict[str, Path]:
        """Files named in the settings, by dotted path of the setting."""
        return dict(_named_files(self.model_dump(), ""))

    def class_problems(self, classes: Sequence[str]) -> list[str]:
        """List what in the settings, or in files they name, does not suit the data set's classes in their order."""
        return []

    @property
    def first(self) -> MethodConfig | None:
        """Settings of a network to train first and pass to :meth:`Method.prepare`; None without one."""
        return None

    @property
    def first_method(self) -> str | None:
        """Method name of the network trained first; None: the same method."""
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
        visual_shape: shape of one visual segment, (h, w, D_v) or (D_v,).
        audio_shape: shape of one audio segment, (D_a,).
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
        """Fill buffers from the training split, once, before training. Does nothing by default.

        Args:
            first: the network trained with ``config.first``, in eval mode; None if ``config.first`` is None.
            batches: iterates over the training split in order, in batches of the recipe's size.
        """

    def calibrated(self, scores: Any, truth: Any, mask: Tensor) -> dict[str, Tensor]:
        """Buffers to store with the weights, computed from validation scores and truth.

        Called after the epoch ``config.calibrated_after``. Returns no buffers by default.

        Args:
            scores: output of :meth:`predict` for all validation clips, on the CPU.
            truth: the task's targets, on the CPU.
            mask: (N, T), bool, on the CPU.

        Returns:
            The new value of each buffer by name.
        """
        return {}

    def phase(self, progress: Progress) -> Hashable:
        """All that the losses take from the progress: between two positions of the same phase they do not differ.

        A GPU records the work of one step per phase and repeats it, so whatever Python decides from the progress must show here.
        """
        return None

    @abstractmethod
    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """Named scalar terms and their weighted sum ``"total"``. Masked segments carry no weight in any term.

        Raises:
            TypeError: ``targets`` of another kind than ``config.training_labels``.
        """

    def steps(self, batch: Batch, targets: Tensors, progress: Progress) -> Iterator[dict[str, Tensor]]:
        """Losses of a batch, one dict per optimizer step.

        The loop runs backward through each ``"total"`` and steps the optimizer before it asks for the next dict. A step leaves parameters
        without a gradient unchanged, so one optimizer over several steps equals alternating optimizers of the same settings over disjoint
        parameters. Schedules count the batch once; terms of the same name are recorded as their sum.
        """
        yield self.losses(batch, targets, progress)

    def kept_weights(self) -> dict[str, Tensor]:
        """The weights to store after training: all that prediction needs."""
        return self.state_dict()

    def not_finite(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Names of stored tensors that contain non-finite values; such weights are neither kept nor used."""
        suspects = {name: value for name, value in weights.items() if name.rpartition(".")[2] not in self.nan_if_unset}
        good = torch.stack([torch.isfinite(value).all() for value in suspects.values()]).tolist() if suspects else []  # read once
        return [name for name, is_good in zip(suspects, good, strict=True) if not is_good]

    def load_kept(self, weights: Mapping[str, Tensor]) -> None:
        """Load :meth:`kept_weights` for prediction; networks needed only in training are dropped."""
        self.load_state_dict(weights)

    @abstractmethod
    def predict(self, batch: Batch) -> Tensors:
        """Scores of a batch, in the task's type.

        In eval mode they are deterministic, and a clip's scores do not depend on the other clips of the batch.
        """


METHODS: Registry[type[Method]] = Registry("method")


def create(
    name: str, *, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
    other_shapes: Mapping[str, tuple[int, ...]] | None = None, **config,
) -> Method:  # fmt: skip
    """Build the registered method ``name`` with its settings.

    Args:
        visual_shape: shape of one visual segment, (h, w, D_v) or (D_v,).
        audio_shape: shape of one audio segment, (D_a,).
        num_classes: C, without background.
        other_shapes: shape of one segment of each further stream of the feature set, by name; the method receives those it needs.
        config: the method's settings.

    Raises:
        UnknownName: no such method.
        pydantic.ValidationError: a setting is unknown to the method or out of range.
        PipelineError: the feature set lacks a stream that the method needs.
    """
    method_class = METHODS.get(name)
    settings = method_class.Config(**config)
    if not settings.streams:
        return method_class(settings, visual_shape, audio_shape, num_classes)
    have = other_shapes or {}
    if missing := [stream for stream in settings.streams if stream not in have]:
        raise PipelineError(
            f"{name} needs the stream {', '.join(missing)}, but the feature set has {', '.join(['visual', 'audio', *have])}; choose another"
            " feature set, or method settings that do not need it"
        )
    wanted = {stream: have[stream] for stream in settings.streams}
    return method_class(settings, visual_shape, audio_shape, num_classes, other_shapes=wanted)  # type: ignore[call-arg]
