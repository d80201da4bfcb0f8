"""MM-Pyramid for parsing: windowed attention within and across both streams on four levels, then HAN's pooling and losses.

Yu, Cheng, Zhao, Feng, Zhang, "MM-Pyramid: Multimodal Pyramid Attentional Network for Audio-Visual Event Localization and Video Parsing",
ACM MM 2022. The levels see 1, 2, 4 and 8 segments to either side; a segment's levels attend to each other and are summed by gates
(:mod:`pipeline.layers.multimodal_pyramid`). Published on LLP, segment level: A 60.9, V 54.4, AV 50.0, Type@AV 55.1, Event@AV 57.6; event
level: 52.7, 51.8, 44.4, 49.9 (the mean of its three is 49.6), 50.5. With MA's refined labels, as DHHN's authors print it (``refine``):
61.1, 60.3, 55.8, 59.7 (59.1), 59.1; 53.8, 56.7, 49.4, 54.1 (53.3), 51.2.

``variant: released`` keeps a fault of the released code, ``fixed`` (default) does not: the network returns the visual stream before the
audio stream, but the losses and the evaluation call the first one audio. So there the unsmoothed labels train the visual stream, and what
it finds is scored as audible. The published numbers come from that; fixed is the default because an answer must name the right modality.

Deliberate differences from the released code:

* Every layer starts from weights of its own, drawn as torch draws them for an attention. Released, all projections of an attention, and
  the feed-forward blocks of all levels, are copies of one layer at the start (not tied).
* Layers that are registered but never used are left out (43,995,725 parameters there, 40,827,469 of them used).
* The eight frames of a segment are averaged before their linear layer (equal up to rounding).
* Padding (the released code has none): no segment attends to it, and it is zero before every convolution. Any number of segments, where
  the released fusion of the levels needs ten.
* Among epochs with equal validation scores the first is kept (released: the last).
* ``refine``: a removed label's target in its modality is 0, also where the others are smoothed, and the clip keeps it; how DHHN's authors
  trained MM-Pyramid so is not published.

Attention across the streams can be left out for CoLeaF's sake (``cross=False``): then its term in the gated sum is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from pipeline.batch import Batch
from pipeline.layers.hybrid_attention import AttentivePooling, ParsingFrontEnd
from pipeline.layers.multimodal_pyramid import PyramidEncoder
from pipeline.layers.parsing_losses import smoothed
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, Progress
from pipeline.methods.mm_pyramid.recipe import MmPyramidRecipe
from pipeline.methods.shared.anchor import Anchored, AnchorMethod, AnchorTargets, clip_losses
from pipeline.methods.shared.parsing import ParsingInputs
from pipeline.methods.shared.removed_labels import Absent, RefinedByMaConfig, RefinedMethod
from pipeline.tasks.avvp import ParsingScores


class MmPyramidConfig(RefinedByMaConfig):
    """Defaults: the paper's network, its streams under their own names."""

    variant: Literal["fixed", "released"] = Field("fixed", description="released: with audio and visual exchanged, in losses and answers")
    width: int = Field(512, ge=1, description="of both modalities' features in the attention")
    heads: int = Field(8, ge=1, description="of every attention")
    levels: int = Field(4, ge=1, le=12, description="of the pyramid; level l sees 2^(l-1) segments to either side")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.2, ge=0, lt=1, description="in the attention blocks")
    attention_dropout: float = Field(0.1, ge=0, lt=1, description="of the attention weights")
    visual_share: float = Field(0.9, ge=0, le=1, description="weight of the label in the visual target; the rest is 1/2")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, in either modality, reaches this")
    recipe: MmPyramidRecipe = MmPyramidRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self


@METHODS.register("mm_pyramid")
class MmPyramid(RefinedMethod, AnchorMethod):
    """Pyramid network with MMIL pooling.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 40,827,469.
    """

    Config = MmPyramidConfig
    config: MmPyramidConfig

    def __init__(
        self, config: MmPyramidConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width)
        self.encoder = PyramidEncoder(
            config.width, config.heads, config.levels, config.feedforward, config.dropout, config.attention_dropout
        )
        self.token_width = config.width
        self.pooling = AttentivePooling(config.width, num_classes)

    def anchor_forward(self, inputs: ParsingInputs, cross: bool = True) -> Anchored:
        visual, audio, motion, mask = inputs
        audio, visual = self.encoder(*self.front_end(visual, audio, motion), mask, cross)
        if self.config.variant == "released":
            audio, visual = visual, audio
        return Anchored(audio, visual, *self.pooling(audio, visual, mask))

    def modality_targets(
        self, inputs: ParsingInputs, told: tuple[Tensor, Tensor], counted: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """The audio labels, and the smoothed visual labels."""
        return told[0], smoothed(told[1], self.config.visual_share)

    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``."""
        return clip_losses(anchored, targets, counted)

    def refined_losses(self, batch: Batch, labels: Tensor, absent: Absent, progress: Progress) -> dict[str, Tensor]:
        """The terms of :meth:`anchor_losses` and their sum; a removed label's target in its modality is 0."""
        inputs, counted = self.inputs(batch), batch.mask.any(dim=1)
        audio, visual = self.modality_targets(inputs, self.told(batch, labels), counted, progress)
        targets = AnchorTargets(labels, audio.masked_fill(absent.audio, 0.0), visual.masked_fill(absent.visual, 0.0))
        return self.losses_of_targets(batch, inputs, targets, counted, progress)

    def predict(self, batch: Batch) -> ParsingScores:
        said = self.anchor_forward(self.inputs(batch))
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(said.audio, said.visual, said.clip, said.clip, self.gates(said.clip, thresholds, thresholds))
