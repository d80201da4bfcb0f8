"""What methods of audio-visual video parsing share: their inputs, their settings, and that they learn from the labels of clips alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.layers.parsing_losses import binary_loss
from pipeline.methods.base import Batch, Labels, Method, MethodConfig, ParsingScores, Progress, Targets, VideoTargets
from pipeline.methods.inputs import check_shapes


class ParsingConfig(MethodConfig):
    """Settings of every parsing method."""

    motion: str | None = Field("motion", description="name of the stream of motion features beside the visual one; null: none is used")

    @property
    def training_labels(self) -> Labels:
        return "video"

    @property
    def streams(self) -> tuple[str, ...]:
        return () if self.motion is None else (self.motion,)


class ParsingInputs(NamedTuple):
    """visual (B, T, D_v), the mean of a segment's frames or positions, or with ``every_frame`` (B, T, S, D_v), audio (B, T, D_a), motion
    (B, T, D_m) or None, mask (B, T) bool with at least one True per clip."""

    visual: Tensor
    audio: Tensor
    motion: Tensor | None
    mask: Tensor


class ParsingMethod(Method):
    """A method that is told the classes of a clip and says in which segments each is heard and seen.

    Args:
        other_shapes: of one segment, of the motion stream where the settings name one: (D_m,).

    Raises:
        PipelineError: a motion stream of another form.
    """

    tasks = frozenset({"avvp"})
    every_frame: ClassVar[bool] = False  # whether the network wants the frames, or positions, of a segment apart
    config: ParsingConfig

    def __init__(
        self, config: ParsingConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.motion_shape = None if config.motion is None else tuple((other_shapes or {})[config.motion])
        if self.motion_shape is not None and len(self.motion_shape) != 1:
            raise PipelineError(f"the stream {config.motion} has the shape {self.motion_shape} per segment; one vector is needed")

    @property
    def motion_width(self) -> int | None:
        return None if self.motion_shape is None else self.motion_shape[0]

    def inputs(self, batch: Batch) -> ParsingInputs:
        """Features in the dtype of the weights, padded segments zero; a clip that is nothing but padding is shown as T segments of zeros.

        Without ``every_frame`` the frames are averaged before the linear layer that the papers have there: equal up to rounding, and a
        fraction of the work.

        Raises:
            PipelineError: features of another shape than the method was built for, or no motion.
        """
        check_shapes(self, batch)
        dtype, padding = next(self.parameters()).dtype, ~batch.mask.unsqueeze(-1)
        # Zeroed, not only masked: a padded segment may hold anything, and 0 * NaN is NaN.
        visual = batch.visual.to(dtype).reshape(*batch.mask.shape, -1, self.visual_shape[-1])
        visual = visual.masked_fill(padding.unsqueeze(-1), 0.0) if self.every_frame else visual.mean(dim=2).masked_fill(padding, 0.0)
        motion = None
        if self.config.motion is not None:
            stream = batch.others.get(self.config.motion)
            if stream is None or tuple(stream.shape[2:]) != self.motion_shape:
                shape = "none" if stream is None else f"of shape {tuple(stream.shape[2:])}"
                raise PipelineError(f"{self.config.motion} features: {shape}, but this {type(self).__name__} needs {self.motion_shape}")
            motion = stream.to(dtype).masked_fill(padding, 0.0)
        audio = batch.audio.to(dtype).masked_fill(padding, 0.0)
        return ParsingInputs(visual, audio, motion, batch.mask | ~batch.mask.any(dim=1, keepdim=True))

    def losses(self, batch: Batch, targets: Targets, progress: Progress) -> dict[str, Tensor]:
        """``total`` and its terms; clips of padding alone carry no weight.

        Raises:
            TypeError: targets that tell more than the labels of clips.
        """
        return self.losses_of_clips(batch, self.labels(targets), batch.mask.any(dim=1), progress)

    def labels(self, targets: Targets) -> Tensor:
        """(B, C) in {0, 1}, in the dtype of the weights.

        Raises:
            TypeError: as in :meth:`losses`.
        """
        if not isinstance(targets, VideoTargets):
            raise TypeError(f"{type(self).__name__} learns from the labels of clips and does not train on {type(targets).__name__}")
        return targets.labels[:, : self.num_classes].to(next(self.parameters()).dtype)

    @abstractmethod
    def predict(self, batch: Batch) -> ParsingScores: ...

    @abstractmethod
    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The losses from the clips' labels (B, C) in {0, 1}; ``counted`` (B,) bool: clips that are not all padding."""


@dataclass
class Anchored:
    """What a network of audio-visual video parsing says of B clips; a method that needs more for its losses adds fields in a subclass.

    heard_tokens, seen_tokens: (B, T, D), the streams behind all attention, before any dropout of the classifier.
    heard, seen: (B, T, C), probabilities of the segments.
    clip_heard, clip_seen, clip: (B, C), of the clip: heard, seen, and whichever, which may exceed 1.
    """

    heard_tokens: Tensor
    seen_tokens: Tensor
    heard: Tensor
    seen: Tensor
    clip_heard: Tensor
    clip_seen: Tensor
    clip: Tensor


class AnchorTargets(NamedTuple):
    """labels (B, C) in {0, 1}, of the clip, and what the modalities are taught, each (B, C) in [0, 1], smoothed or denoised."""

    labels: Tensor
    heard: Tensor
    seen: Tensor


class AnchorMethod(ParsingMethod):
    """A parsing method whose tokens, probabilities and losses others can use: CoLeaF trains any as its Anchor.

    ``token_width``: D of its tokens.
    """

    token_width: int

    @property
    def crosses(self) -> bool:
        """Whether training and inference attend across the modalities."""
        return True

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of the terms of :meth:`anchor_losses`; those not named have 1."""
        return {}

    @abstractmethod
    def anchor_forward(self, inputs: ParsingInputs, cross: bool = True) -> Anchored:
        """The network's pass; without ``cross`` no attention across the modalities, the weights being the same."""

    @abstractmethod
    def modality_targets(self, inputs: ParsingInputs, labels: Tensor, counted: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
        """What is to be heard and seen, (B, C) each, from the labels (B, C) of the clips, smoothed or denoised; ``counted`` (B,) as in
        :meth:`losses_of_clips`."""

    @abstractmethod
    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """The terms, unweighted: ``heard``, ``seen``, ``clip``, cross-entropies of the three probabilities of the clip, and any others.

        Args:
            anchored: of :meth:`anchor_forward`.
            mask: (B, T), bool, of the batch itself: a clip of padding alone has none.
        """

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The terms of :meth:`anchor_losses` and their weighted sum."""
        inputs = self.inputs(batch)
        targets = AnchorTargets(labels, *self.modality_targets(inputs, labels, counted, progress))
        anchored = self.anchor_forward(inputs, self.crosses)
        terms = self.anchor_losses(anchored, targets, batch.mask, counted, progress)
        return {**terms, "total": weighted_sum(terms, self.loss_weights)}


def clip_losses(anchored: Anchored, targets: AnchorTargets, counted: Tensor) -> dict[str, Tensor]:
    """``heard``, ``seen``, ``clip``: cross-entropy of the three probabilities of a clip, mean over the clips that count and the classes."""
    return {
        "heard": binary_loss(anchored.clip_heard, targets.heard, counted),
        "seen": binary_loss(anchored.clip_seen, targets.seen, counted),
        "clip": binary_loss(anchored.clip, targets.labels, counted),
    }


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of the terms; those without a weight have 1."""
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()


def gates(like: Tensor, heard: tuple[float, float], seen: tuple[float, float]) -> Tensor:
    """(segment, clip) thresholds of what is heard and seen, the same for all classes, as :class:`ParsingScores` wants them.

    Args:
        like: (B, C).

    Returns:
        (B, 2, 2, C).
    """
    values = torch.tensor([heard, seen], dtype=like.dtype, device=like.device)
    return values[None, :, :, None].expand(len(like), 2, 2, like.shape[1])
