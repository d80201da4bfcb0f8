"""Parsing methods whose tokens, probabilities and losses another method can use: CoLeaF trains any of them as its Anchor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.batch import Batch
from pipeline.layers.parsing_losses import binary_loss
from pipeline.methods.base import Progress
from pipeline.methods.shared.parsing import ParsingInputs, ParsingMethod


@dataclass
class Anchored:
    """What a network of audio-visual video parsing says of B clips; a method that needs more for its losses adds fields in a subclass.

    audio_tokens, visual_tokens: (B, T, D), the streams behind all attention, before any dropout of the classifier.
    audio, visual: (B, T, C), probabilities of the segments.
    clip_audio, clip_visual, clip: (B, C), of the clip: audio, visual, and either, which may exceed 1.
    """

    audio_tokens: Tensor
    visual_tokens: Tensor
    audio: Tensor
    visual: Tensor
    clip_audio: Tensor
    clip_visual: Tensor
    clip: Tensor


class AnchorTargets(NamedTuple):
    """labels (B, C) in {0, 1}, of the clip, and what the modalities are taught, each (B, C) in [0, 1], smoothed or denoised."""

    labels: Tensor
    audio: Tensor
    visual: Tensor


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
    def modality_targets(
        self, inputs: ParsingInputs, told: tuple[Tensor, Tensor], counted: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """The audio and the visual targets, (B, C) each, from what :meth:`told` gives of both, smoothed or denoised; ``counted`` (B,) as in
        :meth:`losses_of_clips`."""

    @abstractmethod
    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """The terms, unweighted: ``audio``, ``visual``, ``clip``, cross-entropies of the three probabilities of the clip, and any others.

        Args:
            anchored: of :meth:`anchor_forward`.
            mask: (B, T), bool, of the batch itself: a clip of padding alone has none.
        """

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The terms of :meth:`anchor_losses`, those of pseudo-labels, and their weighted sum."""
        inputs = self.inputs(batch)
        targets = AnchorTargets(labels, *self.modality_targets(inputs, self.told(batch, labels), counted, progress))
        anchored = self.anchor_forward(inputs, self.crosses)
        terms = self.anchor_losses(anchored, targets, batch.mask, counted, progress)
        terms |= self.segment_losses(batch, anchored.audio, anchored.visual)
        return {**terms, "total": weighted_sum(terms, self.loss_weights)}


def clip_losses(anchored: Anchored, targets: AnchorTargets, counted: Tensor) -> dict[str, Tensor]:
    """``audio``, ``visual``, ``clip``: cross-entropy of the three probabilities of a clip, mean over the clips that count and the
    classes."""
    return {
        "audio": binary_loss(anchored.clip_audio, targets.audio, counted),
        "visual": binary_loss(anchored.clip_visual, targets.visual, counted),
        "clip": binary_loss(anchored.clip, targets.labels, counted),
    }


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of the terms; those without a weight have 1."""
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
