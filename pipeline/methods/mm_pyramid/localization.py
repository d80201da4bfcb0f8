"""MM-Pyramid for localization: its encoder on AVE's features, and CMRAN's two heads. In part our reading.

Yu, Cheng, Zhao, Feng, Zhang, "MM-Pyramid: Multimodal Pyramid Attentional Network for Audio-Visual Event Localization and Video Parsing",
ACM MM 2022. Its code is for parsing alone, and its text was not at hand; 77.8 % supervised and 73.2 % weak are recalled, not verified.

What is the released parsing network's: the levels, gates, convolutions and the fusion of levels (:mod:`pipeline.layers.multimodal_pyramid`,
where what differs from the released code is listed in :mod:`pipeline.methods.mm_pyramid.method`), its rates of dropout and its recipe.

What is ours, because nothing public says it:

* Audio-guided attention as AVEL's pools the map; a linear layer each brings both streams to one width.
* The width, 512 as for parsing (256 is as likely).
* Both streams of the encoder are joined, and CMRAN's heads answer: event or background per segment, and one class per clip from the maximum
  over time; under weak supervision CMRAN's gated clip logits, and its ``video_loss``. A clip without an event counts as class 0 in the
  class loss, as in CMRAN's code.
* The recipe: that of parsing, also under weak supervision.
* The epoch is chosen on validation.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import cat, nn

from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.multimodal_pyramid import PyramidEncoder
from pipeline.layers.multiple_instance import VideoLoss
from pipeline.layers.pooling import max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS
from pipeline.methods.mm_pyramid.recipe import MmPyramidRecipe
from pipeline.methods.shared.inputs import Inputs, positions
from pipeline.methods.shared.localization import SupervisionConfig
from pipeline.methods.shared.two_heads import Heads, TwoHeadMethod


class MmPyramidAvelConfig(SupervisionConfig):
    """Defaults: the widths of the parsing network; narrower ones suit small data."""

    video_loss: Literal["cross_entropy", "soft_margin"] = Field(
        "cross_entropy", description="weak supervision; soft_margin: as CMRAN's code"
    )
    attention_width: int = Field(512, ge=1, description="hidden width of the audio-guided attention")
    width: int = Field(512, ge=1, description="of both streams in the encoder")
    heads: int = Field(8, ge=1, description="of every attention of the encoder")
    levels: int = Field(4, ge=1, le=12, description="of the pyramid; level l sees 2^(l-1) segments to either side")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.2, ge=0, lt=1, description="in the attention blocks")
    attention_dropout: float = Field(0.1, ge=0, lt=1, description="of the attention weights")
    recipe: MmPyramidRecipe = MmPyramidRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self

    @property
    def attends_to_positions(self) -> bool:
        return True


@METHODS.register("mm_pyramid_avel")
class MmPyramidAvel(TwoHeadMethod):
    """The pyramid encoder with two heads.

    Parameters at 7x7x512 / 128, C = 28: 39,623,760; weakly supervised 39,624,785.
    """

    Config = MmPyramidAvelConfig
    config: MmPyramidAvelConfig

    def __init__(
        self, config: MmPyramidAvelConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual_width, audio_width = self.visual_shape[-1], self.audio_shape[0]
        self.attention = AudioGuidedSpatialAttention(visual_width, audio_width, positions(self.visual_shape), config.attention_width)
        self.audio, self.visual = nn.Linear(audio_width, config.width), nn.Linear(visual_width, config.width)
        self.encoder = PyramidEncoder(
            config.width, config.heads, config.levels, config.feedforward, config.dropout, config.attention_dropout
        )
        self.event_head = nn.Linear(2 * config.width, 1)
        self.class_head = nn.Linear(2 * config.width, self.clip_labels)

    @property
    def video_form(self) -> VideoLoss:
        return self.config.video_loss

    def heads(self, inputs: Inputs) -> Heads:
        attended, weights = self.attention(inputs.visual, inputs.audio)
        fused = cat(self.encoder(self.audio(inputs.audio), self.visual(attended), inputs.mask), dim=-1)
        classes = self.class_head(max_over_time(fused, inputs.mask))
        return Heads(at_least_float32(self.event_head(fused)).squeeze(-1), at_least_float32(classes), weights)
