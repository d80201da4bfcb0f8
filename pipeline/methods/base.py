"""What every method (one paper: networks, losses, inference rule) offers to the training loop and to the tasks.

Shape letters: B batch, T segments of one clip, S spatial positions of the visual map (h*w), C event classes
(background not counted), D feature width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.layers.matching import fits
from pipeline.registry import Registry
from pipeline.settings import Settings, merge


@dataclass
class Tensors:
    """A bundle of tensors that moves, and is sliced along the batch, as one. Not frozen: Fabric refuses frozen dataclasses as inputs."""

    def _map(self, function) -> Self:
        changes = {f.name: _each(function, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **changes)

    def to(self, device: torch.device | str) -> Self:
        return self._map(lambda tensor: tensor.to(device))

    def finite(self, mask: Tensor) -> Tensor:
        """(B,) bool: whether every number of a clip is finite; what it says of segments outside of ``mask`` (B, T) does not count."""
        good = torch.ones(len(mask), dtype=torch.bool, device=mask.device)
        for value in (getattr(self, f.name) for f in fields(self)):
            for tensor in value.values() if isinstance(value, dict) else () if value is None else (value,):
                counts = mask if tensor.shape[: mask.ndim] == mask.shape else mask.any(dim=1)
                right = torch.isfinite(tensor).reshape(*counts.shape, -1).all(dim=-1)
                good &= (right | ~counts).reshape(len(mask), -1).all(dim=1)
        return good

    def __getitem__(self, rows) -> Self:
        return self._map(lambda tensor: tensor[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Bundles joined along the batch; a field that is None in the first is None in the result."""
        present = [f.name for f in fields(cls) if getattr(parts[0], f.name) is not None]
        return replace(parts[0], **{name: _joined([getattr(part, name) for part in parts]) for name in present})


def _each(function, value):
    """Of a tensor, or of every tensor of a dict."""
    return {name: function(tensor) for name, tensor in value.items()} if isinstance(value, dict) else function(value)


def _joined(values):
    if isinstance(values[0], dict):
        return {name: torch.cat([value[name] for value in values]) for name in values[0]}
    return torch.cat(values)


@dataclass
class Batch(Tensors):
    """The features of B clips.

    visual: (B, T, h, w, D_v) or (B, T, D_v), float, as the feature store holds it.
    audio: (B, T, D_a), float.
    mask: (B, T), bool; False where a segment lies beyond the end of its clip (padding).
    others: further streams of the feature set by name (``motion``), (B, T, ...) each; those that the method's settings name, no more.
    """

    visual: Tensor
    audio: Tensor
    mask: Tensor
    others: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class AvelTargets(Tensors):
    """The truth of audio-visual event localization; class index C is the background.

    segments: (B, T), int64 in [0, C]. One event class, or background, per segment.
    video: (B,), int64 in [0, C]. The class of the clip's event; C for a clip without one.
    """

    segments: Tensor
    video: Tensor


@dataclass
class VideoTargets(Tensors):
    """What weak supervision tells of B clips: no segment, no time.

    labels: (B, C+1), float, multi-hot: 1 for each class that the clip holds; 1 at C, and nowhere else, for a clip without an event. With
        labels ``proportions``: the share of the clip's segments of each class and of the background, summing to 1.
    rows: (B,), int64, the clips' annotation rows, for methods that keep something of every training clip; None where nobody tells.
    """

    labels: Tensor
    rows: Tensor | None = None


@dataclass
class MatchingTargets(Tensors):
    """The truth of cross-modality localization.

    event: (B, T), bool; the segments whose sound and picture belong together.
    labels: (B, C), float, multi-hot: the classes of the clip's events; zero in a clip without one.
    """

    event: Tensor
    labels: Tensor


@dataclass
class ParsingTargets(Tensors):
    """The truth of audio-visual video parsing.

    heard, seen: (B, T, C), bool.
    labels: (B, C), bool; the weak labels of the clips, which need not be the classes of the two.
    """

    heard: Tensor
    seen: Tensor
    labels: Tensor


Targets = AvelTargets | VideoTargets | MatchingTargets | ParsingTargets
Labels = Literal["segments", "video", "proportions"]  # what the training split tells: all, or one of two kinds of VideoTargets


@dataclass
class Scores(Tensors):
    """What a method says of B clips, before any decision. The task turns it into labels.

    segments: (B, T, C+1), probabilities over classes and background, last index background.
    event: (B, T), probability that the segment holds an event, for methods with an event head; else None.
    classes: (B, C), probability of the clip's event class, for methods with a clip-level head; else None. Under weak supervision
        (B, C+1): the clip may also be background as a whole.
        Where both heads exist the two-head rule decides: argmax of ``classes`` where ``event`` > 0.5, else background.
    attention: (B, T, S), weight of each spatial position, summing to 1 over S; None without spatial attention.
    """

    segments: Tensor
    event: Tensor | None = None
    classes: Tensor | None = None
    attention: Tensor | None = None


@dataclass
class MatchingScores(Tensors):
    """How well any window of one modality fits any window of the same length of the other, higher is better.

    audio_to_visual: (B, L, T, T), with L = T: by length - 1 and start of the window of sound, which is given, and start of that of the
        picture, which is searched. Windows that reach beyond their clip have a number of no meaning.
    visual_to_audio: the same with the roles exchanged.
    """

    audio_to_visual: Tensor
    visual_to_audio: Tensor

    def finite(self, mask: Tensor) -> Tensor:
        within = fits(mask)
        both = within.unsqueeze(3) & within.unsqueeze(2)
        right = torch.isfinite(self.audio_to_visual) & torch.isfinite(self.visual_to_audio)
        return (right | ~both).flatten(start_dim=1).all(dim=1)


@dataclass
class ParsingScores(Tensors):
    """What a parsing method says of B clips, with the thresholds that belong to it; the task decides by them.

    heard, seen: (B, T, C), probability that a class is heard, seen, in a segment.
    clip_heard, clip_seen: (B, C), the probability for the whole clip that opens the gate; both the same where a method has one gate.
    thresholds: (B, 2, 2, C), of [heard, seen] x [segment, clip]: on from there.
    """

    heard: Tensor
    seen: Tensor
    clip_heard: Tensor
    clip_seen: Tensor
    thresholds: Tensor


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

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Targets]]]) -> None:
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
    def losses(self, batch: Batch, targets: Targets, progress: Progress) -> dict[str, Tensor]:
        """Named scalar terms and their weighted sum ``"total"``. Masked segments carry no weight in any term.

        ``targets`` are what ``config.training_labels`` says; others raise a TypeError.
        """

    def steps(self, batch: Batch, targets: Targets, progress: Progress) -> Iterator[dict[str, Tensor]]:
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
    def predict(self, batch: Batch) -> Scores | MatchingScores | ParsingScores:
        """Scores of a batch; deterministic in eval mode, independent of the other clips of the batch."""


class LocalizationMethod(Method):
    """A method that localizes events under either supervision. Weakly supervised it takes :class:`VideoTargets` and refuses all else, so
    that no label of a segment can reach its training."""

    config: SupervisionConfig

    @property
    def weak(self) -> bool:
        return self.config.supervision == "weak"

    @property
    def clip_labels(self) -> int:
        """Outputs of a clip-level head: C, or C+1 under weak supervision, where a clip may be background as a whole."""
        return self.num_classes + 1 if self.weak else self.num_classes

    def losses(self, batch: Batch, targets: Targets, progress: Progress) -> dict[str, Tensor]:
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


class MatchingMethod(Method):
    """A method of cross-modality localization. It encodes both modalities apart: of the searched one all is known, of the given one no
    more than the window."""

    tasks = frozenset({"cml"})

    def losses(self, batch: Batch, targets: Targets, progress: Progress) -> dict[str, Tensor]:
        if isinstance(targets, MatchingTargets):
            return self.losses_of_matches(batch, targets)
        raise TypeError(f"{type(self).__name__} does not train on {type(targets).__name__}")

    @abstractmethod
    def losses_of_matches(self, batch: Batch, targets: MatchingTargets) -> dict[str, Tensor]:
        """The losses; clips without an event belong to nothing that must match."""

    @abstractmethod
    def predict(self, batch: Batch) -> MatchingScores: ...


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
