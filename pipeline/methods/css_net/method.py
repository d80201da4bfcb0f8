"""CSS-Net-style network for audio-visual event localization, designed from the paper's abstract.

After Feng, Ming, Hu, Yu, Liu, "CSS-Net: A Consistent Segment Selection Network for Audio-Visual Event Localization", IEEE TMM 2023. Only
its abstract is public (80.5 % of AVE's segments supervised, 76.8 weak; the latter is 2.5 points above every other number on the same
features, so an anchor only once the paper has been seen): no equation and no code. The design is ours, and no result of this method is
the paper's. What the abstract says, and how we read it:

* "Bidirectional guided co-attention", two paths, audio to vision over regions and vision to audio over segments: CMRAN's audio-guided
  channel and spatial attention gives v; a' = a (1 + sigmoid(softmax_t(q(v) k(a)^T) v(a))), the form of CACE-Net's Eq. 6 with psi = 1. A
  BiLSTM on each follows.
* "Context-aware similarity measure", a cross-correlation matrix of coefficients between all visual and audio segments, of which highly
  correlated segments are kept and low ones dropped "for global semantics":
  :func:`pipeline.methods.css_net.correlation.select_segments`. ``select``: the positive entries that reach their row's mean, or its
  ``top`` largest. After it CMBS's sequential interaction and two heads as CMRAN's.
* "An audio-visual contrastive loss" on global features under cosine and L2 similarity:
  :func:`pipeline.methods.css_net.correlation.clip_contrast`; pairs of clips of other classes are pushed apart by their cosine.

Under weak supervision it learns as CMRAN does, with the same contrast. Widths, margin, weight and schedule are ours and were not tuned.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pipeline.batch import Batch
from pipeline.layers.audio_guided_channel_spatial import AudioGuidedChannelSpatialAttention
from pipeline.layers.co_guidance import UnscaledAttention
from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.pooling import max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.layers.relation import MutualInteraction, check_heads
from pipeline.methods.base import METHODS, Progress
from pipeline.methods.css_net.correlation import Select, clip_contrast, select_segments
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.localization import SupervisionConfig
from pipeline.methods.shared.suppression import SuppressionRecipe
from pipeline.methods.shared.two_heads import Heads, TwoHeadMethod
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.labels import VideoTargets


class CssNetConfig(SupervisionConfig):
    """All settings are our choice; the schedule is CMBS's."""

    select: Select = Field("mean", description="segments that are kept: from the mean of a row of the correlation on | its largest")
    top: int = Field(4, ge=1, description="entries of a row that `select: topk` keeps")
    contrast_weight: float = Field(0.1, ge=0, description="of the contrast in the total")
    contrast_margin: float = Field(0.2, ge=0, le=2, description="the cosine of clips of other classes is to be below its negative")
    visual_hidden: int = Field(512, ge=1, description="width of projected positions")
    width: int = Field(256, ge=2, description="of the BiLSTMs' outputs and of the attention's hidden layers")
    heads: int = Field(4, ge=1, description="of the interaction")
    input_dropout: float = Field(0.2, ge=0, lt=1, description="on projected positions")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the interaction, also on its attention weights")
    recipe: SuppressionRecipe = SuppressionRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        if self.width % 2:
            raise ValueError(f"width ({self.width}) must be even: the two directions of a BiLSTM share it")
        return self

    @property
    def attends_to_positions(self) -> bool:
        return True


class Outputs(NamedTuple):
    """Both heads, and the global features of the clips, (B, D) each."""

    heads: Heads
    visual_clip: Tensor
    audio_clip: Tensor


@METHODS.register("css_net")
class CssNet(TwoHeadMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 2,573,982; weakly supervised 2,574,239.
    """

    Config = CssNetConfig
    config: CssNetConfig

    def __init__(self, config: CssNetConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width = config.visual_hidden, self.audio_shape[0], config.width
        self.visual_input = nn.Sequential(nn.Linear(self.visual_shape[-1], visual), nn.ReLU(), MapDropout(config.input_dropout))
        self.audio_guides = AudioGuidedChannelSpatialAttention(visual, audio, width)
        self.visual_guides = UnscaledAttention(visual, audio, audio, audio)
        self.visual_lstm, self.audio_lstm = SegmentLSTM(visual, width), SegmentLSTM(audio, width)
        self.interaction = MutualInteraction(width, config.heads, config.dropout, config.dropout)
        self.event_head = nn.Linear(width, 1)
        self.class_head = nn.Linear(width, self.clip_labels)

    def _outputs(self, inputs: Inputs) -> Outputs:
        maps = self.visual_input(inputs.visual)
        attended, weights = self.audio_guides(maps, maps, inputs.audio)
        guided = inputs.audio * (1 + torch.sigmoid(self.visual_guides(attended, inputs.audio, inputs.mask)))
        visual, audio = self.visual_lstm(attended, inputs.lengths), self.audio_lstm(guided, inputs.lengths)
        chosen = select_segments(visual, audio, inputs.mask, self.config.select, self.config.top)
        fused = self.interaction(chosen.visual, chosen.audio, inputs.mask)
        event = at_least_float32(self.event_head(fused)).squeeze(-1)
        heads = Heads(event, at_least_float32(self.class_head(max_over_time(fused, inputs.mask))), weights)
        return Outputs(heads, chosen.visual_clip, chosen.audio_clip)

    def heads(self, inputs: Inputs) -> Heads:
        return self._outputs(inputs).heads

    def _contrast(self, outputs: Outputs, labels: Tensor, batch: Batch) -> Tensor:
        known = batch.mask.any(dim=1)
        return clip_contrast(outputs.visual_clip, outputs.audio_clip, labels, known, self.config.contrast_margin)

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` + ``class`` + contrast_weight * ``contrast``; means over valid segments, clips, or pairs of clips."""
        outputs = self._outputs(method_inputs(self, batch))
        terms = self.head_terms(outputs.heads, targets, batch.mask)
        labels = one_hot(targets.video, self.num_classes + 1).to(outputs.visual_clip.dtype)
        terms["contrast"] = self._contrast(outputs, labels, batch)
        return {**terms, "total": terms["event"] + terms["class"] + self.config.contrast_weight * terms["contrast"]}

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video`` + contrast_weight * ``contrast``; means over clips, or pairs of clips."""
        inputs = method_inputs(self, batch)
        outputs = self._outputs(inputs)
        terms = {"video": self.video_term(outputs.heads, targets, inputs.mask, batch.mask)}
        terms["contrast"] = self._contrast(outputs, targets.labels.to(outputs.visual_clip.dtype), batch)
        return {**terms, "total": terms["video"] + self.config.contrast_weight * terms["contrast"]}
