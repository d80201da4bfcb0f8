"""HAN: Tian, Li, Xu, "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video Parsing", ECCV 2020, the task's baseline.

A linear front end, one hybrid attention layer, attentive MMIL pooling, and binary cross-entropy of the clip's audio, visual and
either-modality probabilities, with smoothed visual labels. Published on LLP, segment level: A 60.1, V 52.9, AV 48.9, Type@AV 54.0,
Event@AV 55.4; event level: 51.3, 48.9, 43.0, 47.7, 48.0.

Deliberate differences from the released code:

* Its further encoder layers, registered but never used, are left out (9,307,723 parameters there, 4,569,675 of them used); this changes
  the random initialization.
* The eight frames of a segment are averaged before their linear layer (equal up to rounding).
* Among epochs with equal validation scores the first is kept (released: the last).
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from pipeline.batch import Batch
from pipeline.layers.hybrid_attention import AttentivePooling, HybridAttention, ParsingFrontEnd
from pipeline.layers.parsing_losses import smoothed
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.shared.anchor import Anchored, AnchorMethod, AnchorTargets, clip_losses
from pipeline.methods.shared.parsing import ParsingConfig, ParsingInputs
from pipeline.tasks.avvp import ParsingScores


class HanRecipe(Recipe):
    """Adam 3e-4, divided by 10 every ten epochs, 40 epochs, batches of 16, as released."""

    learning_rate: float = Field(3e-4, gt=0)
    milestones: tuple[int, ...] = (10, 20, 30)
    decay: float = Field(0.1, gt=0, le=1)
    batch_size: int = Field(16, ge=1)
    epochs: int = Field(40, ge=1)


class HanConfig(ParsingConfig):
    """Defaults: the paper's network."""

    width: int = Field(512, ge=1, description="of both modalities' features in the attention")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    audio_share: float = Field(1.0, ge=0, le=1, description="weight of the label in the audio target; the rest is 1/2")
    visual_share: float = Field(0.9, ge=0, le=1, description="likewise in the visual target")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, in either modality, reaches this")
    recipe: HanRecipe = HanRecipe()


@METHODS.register("han")
class Han(AnchorMethod):
    """Hybrid attention network with MMIL pooling.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 4,569,675.
    """

    Config = HanConfig
    config: HanConfig

    def __init__(
        self, config: HanConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width)
        self.attention = HybridAttention(config.width, feedforward=config.feedforward, dropout=config.dropout)
        self.token_width = config.width
        self.pooling = AttentivePooling(config.width, num_classes)

    def anchor_forward(self, inputs: ParsingInputs, cross: bool = True) -> Anchored:
        visual, audio, motion, mask = inputs
        audio, visual = self.attention(*self.front_end(visual, audio, motion), mask, cross)
        return Anchored(audio, visual, *self.pooling(audio, visual, mask))

    def modality_targets(
        self, inputs: ParsingInputs, told: tuple[Tensor, Tensor], counted: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """The smoothed labels."""
        return smoothed(told[0], self.config.audio_share), smoothed(told[1], self.config.visual_share)

    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``."""
        return clip_losses(anchored, targets, counted)

    def predict(self, batch: Batch) -> ParsingScores:
        said = self.anchor_forward(self.inputs(batch))
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(said.audio, said.visual, said.clip, said.clip, self.gates(said.clip, thresholds, thresholds))
