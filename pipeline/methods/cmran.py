"""CMRAN: Xu, Zeng, Wu, Tan, Gan, "Cross-Modal Relation-Aware Networks for Audio-Visual Event Localization", ACM MM 2020.

Published on AVE, VGG-19 + VGGish features: supervised 77.4, weak 72.9 % of segments.

Audio-guided channel and spatial attention over the visual map, relations within and across modalities, one interaction, and two heads:
event or background per segment, and one event class per clip. Positions are projected first, audio enters raw; there is no recurrence.

Under weak supervision the class head has the background as one more label (a whole clip may be background), and the clip's probabilities
are P = softmax(max_t(sigmoid(e_t) r)), with e the event and r the class logits. ``video_loss: soft_margin`` is the released loss on P,
which is nearly flat; the default is the cross-entropy of P.

The network is the released one; its authors call its attention slightly different from the paper's. A clip without an event counts as
class 0 in the class loss, as released. Not kept: layers that are registered but never called (40 % of the parameters, including the
visual-guided audio attention), and float64.
"""

from __future__ import annotations

from torch import nn

from pipeline.layers.audio_guided_channel_spatial import AudioGuidedChannelSpatialAttention
from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.multiple_instance import VideoLoss
from pipeline.layers.pooling import max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import BimodalRelation, Interaction
from pipeline.methods.base import METHODS
from pipeline.methods.shared.inputs import Inputs
from pipeline.methods.shared.two_heads import Heads, RelationConfig, TwoHeadMethod


class CmranConfig(RelationConfig):
    """Defaults: the released network; narrower widths suit small data."""


@METHODS.register("cmran")
class Cmran(TwoHeadMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 9,509,150 (released 15,863,262 minus 6,354,112 never called); weakly supervised 9,509,407.
    """

    Config = CmranConfig
    config: CmranConfig

    def __init__(self, config: CmranConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width = config.visual_hidden, self.audio_shape[0], config.width
        self.visual_input = nn.Sequential(nn.Linear(self.visual_shape[-1], visual), nn.ReLU(), MapDropout(config.input_dropout))
        self.attention = AudioGuidedChannelSpatialAttention(visual, audio, width)
        self.relation = BimodalRelation(visual, audio, width, config.heads, config.feedforward, config.feedforward, config.dropout)
        self.interaction = Interaction(width, config.interaction_heads, config.dropout, config.dropout)
        self.event_head = nn.Linear(width, 1)
        self.class_head = nn.Linear(width, self.clip_labels)

    @property
    def video_form(self) -> VideoLoss:
        return self.config.video_loss

    def heads(self, inputs: Inputs) -> Heads:
        positions = self.visual_input(inputs.visual)
        attended, weights = self.attention(positions, positions, inputs.audio)
        related = self.relation(attended, inputs.audio, inputs.mask)
        fused = self.interaction(related.visual, related.audio, inputs.mask)
        classes = self.class_head(max_over_time(fused, inputs.mask))
        return Heads(at_least_float32(self.event_head(fused)).squeeze(-1), at_least_float32(classes), weights)
