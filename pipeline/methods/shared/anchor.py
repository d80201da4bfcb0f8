"""Interface of parsing methods that CoLeaF can train as its Anchor: it uses their tokens, probabilities and losses."""

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
    """Outputs of a parsing network for B clips; a method that needs more for its losses subclasses it.

    audio_tokens, visual_tokens: (B, T, D), the streams after all attention, before the classifier's dropout.
    audio, visual: (B, T, C), probabilities of the segments.
    clip_audio, clip_visual, clip: (B, C), probabilities of the clip: audio, visual, and either modality (``clip`` may exceed 1).
    """

    audio_tokens: Tensor
    visual_tokens: Tensor
    audio: Tensor
    visual: Tensor
    clip_audio: Tensor
    clip_visual: Tensor
    clip: Tensor


class AnchorTargets(NamedTuple):
    """Targets of an Anchor.

    labels: (B, C) in {0, 1}, of the clip.
    audio, visual: (B, C) in [0, 1], the targets of each modality, smoothed or denoised.
    """

    labels: Tensor
    audio: Tensor
    visual: Tensor


class AnchorMethod(ParsingMethod):
    """A parsing method that CoLeaF can train as its Anchor.

    ``token_width``: D of its tokens.
    """

    token_width: int

    @property
    def crosses(self) -> bool:
        """Whether training and inference use attention across the modalities."""
        return True

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weights of the terms of :meth:`anchor_losses`; 1 for terms not listed."""
        return {}

    @abstractmethod
    def anchor_forward(self, inputs: ParsingInputs, cross: bool = True) -> Anchored:
        """Run the network; ``cross=False`` skips attention across the modalities and keeps the same weights."""

    @abstractmethod
    def modality_targets(
        self, inputs: ParsingInputs, told: tuple[Tensor, Tensor], counted: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Audio and visual targets, (B, C) each: the labels, smoothed or denoised.

        Args:
            told: the labels of both modalities, from :meth:`told`.
            counted: (B,), as in :meth:`losses_of_clips`.
        """

    @abstractmethod
    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """The unweighted terms: ``audio``, ``visual``, ``clip`` and any others.

        ``audio``, ``visual`` and ``clip`` are the cross-entropies of the clip's three probabilities.

        Args:
            anchored: output of :meth:`anchor_forward`.
            mask: (B, T), bool, the batch's own mask: all False for a clip of padding only.
        """

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The terms of :meth:`own_losses` and their weighted sum."""
        inputs = self.inputs(batch)
        targets = AnchorTargets(labels, *self.modality_targets(inputs, self.told(batch, labels), counted, progress))
        return self.losses_of_targets(batch, inputs, targets, counted, progress)

    def losses_of_targets(
        self, batch: Batch, inputs: ParsingInputs, targets: AnchorTargets, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """The terms of :meth:`own_losses` and their weighted sum, from given targets."""
        anchored = self.anchor_forward(inputs, self.crosses)
        terms = self.own_losses(batch, anchored, targets, counted, progress)
        return {**terms, "total": weighted_sum(terms, {**self.loss_weights, **self.segment_weights})}

    def own_losses(
        self, batch: Batch, anchored: Anchored, targets: AnchorTargets, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:  # fmt: skip
        """The unweighted terms of :meth:`anchor_losses` that the settings keep, and those of the pseudo-labels."""
        terms = self.kept_terms(self.anchor_losses(anchored, targets, batch.mask, counted, progress))
        return terms | self.segment_losses(batch, anchored.audio, anchored.visual)


def clip_losses(anchored: Anchored, targets: AnchorTargets, counted: Tensor) -> dict[str, Tensor]:
    """``audio``, ``visual``, ``clip``: cross-entropy of a clip's three probabilities.

    Means over the ``counted`` clips and the classes.
    """
    return {
        "audio": binary_loss(anchored.clip_audio, targets.audio, counted),
        "visual": binary_loss(anchored.clip_visual, targets.visual, counted),
        "clip": binary_loss(anchored.clip, targets.labels, counted),
    }


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of the terms, each times its weight (default 1)."""
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
