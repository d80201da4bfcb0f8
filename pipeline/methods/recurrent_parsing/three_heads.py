"""Recurrent networks with three heads for parsing: audio, visual, and both; our design, shared by the AVE- and AVSDN-style rows.

HAN's paper trained AVE's and AVSDN's networks on LLP for its tables, and CoLeaF's Table 5 repeats the numbers. No code of that is public;
all that is said is that both networks got further branches for audio and visual parsing, and the features of the other methods. Everything
here is therefore **re-imagined, not reproduced**; compare with the printed numbers accordingly.

On a GPU a step is recorded as a graph only where no clip of the split has padding, as with all recurrent networks here: they read the
clips' lengths.

B batch, T segments, S frames of a segment, C classes, D width.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.parsing_losses import binary_loss
from pipeline.layers.pooling import mean_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.methods.base import Progress, Recipe
from pipeline.methods.shared.anchor import weighted_sum
from pipeline.methods.shared.parsing import ParsingConfig, ParsingMethod
from pipeline.tasks.avvp import ParsingScores


class ThreeHeadRecipe(Recipe):
    """Adam 1e-3, divided by 10 every ten epochs, 40 epochs, batches of 64; our choice."""

    learning_rate: float = Field(1e-3, gt=0)
    milestones: tuple[int, ...] = (10, 20, 30)
    decay: float = Field(0.1, gt=0, le=1)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(40, ge=1)


class ThreeHeadConfig(ParsingConfig):
    """Defaults: the localization networks' widths."""

    attention_width: int = Field(512, ge=1, description="hidden width of the audio-guided attention over a segment's frames")
    recurrent_width: int = Field(128, ge=1, description="width of one direction of each BiLSTM")
    classifier_width: int = Field(64, ge=1, description="hidden width of each head")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, of both modalities' head, reaches this")
    recipe: ThreeHeadRecipe = ThreeHeadRecipe()


class Encoded(NamedTuple):
    """What the heads read, (B, T, D) each."""

    audio: Tensor
    visual: Tensor
    both: Tensor


class Said(NamedTuple):
    """Probabilities of the segments (B, T, C) and of the clip (B, C)."""

    audio: Tensor
    visual: Tensor
    clip_audio: Tensor
    clip_visual: Tensor
    clip: Tensor


class ThreeHeadMethod(ParsingMethod):
    """A recurrent network with three heads; a clip's probability is the mean of its segments'."""

    config: ThreeHeadConfig
    every_frame = True
    audio_head: nn.Module
    visual_head: nn.Module
    both_head: nn.Module

    def __init__(
        self, config: ThreeHeadConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.attention = AudioGuidedSpatialAttention(
            self.visual_shape[-1], self.audio_shape[0], math.prod(self.visual_shape[:-1]), config.attention_width
        )

    @property
    def attended_width(self) -> int:
        """Width of what :meth:`attended` returns."""
        return self.visual_shape[-1] + (self.motion_width or 0)

    def head(self, width: int) -> nn.Sequential:
        """Classifier of streams of this width."""
        return nn.Sequential(
            nn.Linear(width, self.config.classifier_width), nn.ReLU(), nn.Linear(self.config.classifier_width, self.num_classes)
        )

    def attended(self, frames: Tensor, audio: Tensor, motion: Tensor | None) -> Tensor:
        """Frames pooled by audio-guided attention, and the motion beside them: (B, T, S, D_v), ... -> (B, T, D)."""
        pooled = self.attention(frames, audio)[0]
        return pooled if motion is None else torch.cat([pooled, motion], dim=-1)

    @abstractmethod
    def encoded(self, frames: Tensor, audio: Tensor, motion: Tensor | None, lengths: Tensor | None) -> Encoded:
        """The recurrent network.

        Args:
            frames: (B, T, S, D_v).
            audio: (B, T, D_a).
            motion: (B, T, D_m) or None.
            lengths: (B, T), bool; None if no segment is padding.
        """

    def said(self, batch: Batch) -> Said:
        """Probabilities of a batch."""
        frames, audio, motion, mask = self.inputs(batch)
        streams = self.encoded(frames, audio, motion, None if batch.full else mask)
        heads = (self.audio_head, self.visual_head, self.both_head)
        probabilities = [at_least_float32(head(stream)).sigmoid() for head, stream in zip(heads, streams, strict=True)]
        return Said(probabilities[0], probabilities[1], *(mean_over_time(each, mask) for each in probabilities))

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``, those of the pseudo-labels, and their weighted sum; no label is smoothed."""
        said, (of_audio, of_visual) = self.said(batch), self.told(batch, labels)
        terms = self.kept_terms({
            "audio": binary_loss(said.clip_audio, of_audio, counted),
            "visual": binary_loss(said.clip_visual, of_visual, counted),
            "clip": binary_loss(said.clip, labels, counted),
        })  # fmt: skip
        terms |= self.segment_losses(batch, said.audio, said.visual)
        return {**terms, "total": weighted_sum(terms, self.segment_weights)}

    def predict(self, batch: Batch) -> ParsingScores:
        said = self.said(batch)
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(said.audio, said.visual, said.clip, said.clip, self.gates(said.clip, thresholds, thresholds))
