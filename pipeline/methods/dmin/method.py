"""DMIN: Liu, Quan et al., "Dense Modality Interaction Network for Audio-Visual Event Localization", IEEE TMM 2022.

On AVE, VGG-19 + VGGish features. Its published percentages could not be verified, so no run is compared with them.

CMRAN with three changes. The spatial attention joins a bilinear match of each position with the sound and a BiLSTM of each position over
time (:mod:`pipeline.methods.dmin.position_attention`). The attention across the modalities is dense
(:mod:`pipeline.methods.dmin.dense_relation`): its logits of the other modality's keys are means over all cyclic shifts of the query. They
are about 128 times smaller than those of the own keys, so attention to the other modality is nearly flat, as released. And the visual
memory has a class head of its own, in training only (``auxiliary_weight``: event + 0.9 class + 0.1 visual_class).

Under weak supervision both class heads have the background as one more label, and the visual memory also has an event head; the clip's
logits are CMRAN's, and the loss is 0.92 of theirs plus 0.08 of the visual memory's. ``video_loss: soft_margin`` is the released loss on
the softmax of the logits, nearly flat; the default is the cross-entropy of the same.

The network is the released one. A clip without an event counts as class 0 in the class loss, as released. Deliberate differences: the
released ``squeeze`` fails on a batch of one segment; the epoch is chosen on validation (released: the best on test). Not kept: layers that
are registered but never called (36 % of the parameters), and float64. Its network for cross-modality localization is
:mod:`pipeline.methods.dmin.matching`.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.audio_guided_channel_spatial import AudioGuidedChannelGate
from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.multiple_instance import VideoLoss
from pipeline.layers.pooling import max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import BimodalRelation, Interaction, Related
from pipeline.methods.base import METHODS, Progress
from pipeline.methods.dmin.dense_relation import DenseRelation
from pipeline.methods.dmin.position_attention import PositionAttention
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.two_heads import Heads, RelationConfig, TwoHeadMethod, class_loss
from pipeline.settings import merge
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.labels import VideoTargets


class DminConfig(RelationConfig):
    """Defaults: the released network; narrower widths suit small data."""

    weak_defaults: ClassVar = merge(RelationConfig.weak_defaults, {"cross_dropout": 0.1, "auxiliary_weight": 0.08})

    auxiliary_weight: float = Field(0.1, ge=0, le=1, description="share of the visual memory's class loss; weak supervision: 0.08")
    factors: int = Field(5, ge=1, description="summed products per channel of the bilinear match")
    match_dropout: float = Field(0.1, ge=0, lt=1, description="on the products of the bilinear match")
    cross_dropout: float = Field(0.02, ge=0, lt=1, description="in the relation across the modalities; weak supervision: 0.1")

    @model_validator(mode="after")
    def _shiftable(self) -> Self:
        check_dense_heads(self.width, self.heads)
        return self


def check_dense_heads(width: int, heads: int) -> None:
    """Check that the dense attention has channels to shift, and that a BiLSTM can share them.

    Raises:
        ValueError: a head has a single channel, or the width is odd.
    """
    if width < 2 * heads or width % 2:
        raise ValueError(f"width ({width}) must be even and at least twice heads ({heads}): the dense attention shifts a head's channels")


@METHODS.register("dmin")
class Dmin(TwoHeadMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 11,390,778 (released 17,744,890 minus 6,354,112 never called); weakly supervised 11,391,549
    (17,745,661 minus as many).
    """

    Config = DminConfig
    config: DminConfig

    def __init__(self, config: DminConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width = config.visual_hidden, self.audio_shape[0], config.width
        self.visual_input = nn.Sequential(nn.Linear(self.visual_shape[-1], visual), nn.ReLU(), MapDropout(config.input_dropout))
        self.channel_gate = AudioGuidedChannelGate(visual, audio, width)
        self.attention = PositionAttention(visual, audio, width, config.factors, config.match_dropout)
        self.relation = BimodalRelation(
            visual, audio, width, config.heads, config.feedforward, config.feedforward, config.dropout, config.cross_dropout, DenseRelation
        )
        self.interaction = Interaction(width, config.interaction_heads, config.dropout, config.dropout)
        self.event_head = nn.Linear(width, 1)
        self.class_head = nn.Linear(width, self.clip_labels)
        self.visual_class_head = nn.Linear(width, self.clip_labels)
        self.visual_event_head = nn.Linear(width, 1) if self.weak else None

    @property
    def video_form(self) -> VideoLoss:
        return self.config.video_loss

    def _related(self, inputs: Inputs) -> tuple[Related, Tensor]:
        """Both modalities, and the weights of the positions (B, T, S)."""
        positions = self.visual_input(inputs.visual)
        gated = self.channel_gate.gated(positions, positions, inputs.audio)
        attended, weights = self.attention(gated, inputs.audio, inputs.lengths)
        return self.relation(attended, inputs.audio, inputs.mask), weights

    def _heads(self, related: Related, weights: Tensor, inputs: Inputs) -> Heads:
        fused = self.interaction(related.visual, related.audio, inputs.mask)
        classes = at_least_float32(self.class_head(max_over_time(fused, inputs.mask)))
        return Heads(at_least_float32(self.event_head(fused)).squeeze(-1), classes, weights)

    def heads(self, inputs: Inputs) -> Heads:
        return self._heads(*self._related(inputs), inputs)

    def _visual_classes(self, related: Related, mask: Tensor) -> Tensor:
        """Class logits of the visual memory alone, (B, K)."""
        return at_least_float32(self.visual_class_head(max_over_time(related.visual_memory, mask)))

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` + (1 - auxiliary_weight) ``class`` + auxiliary_weight ``visual_class``; means over valid segments or clips."""
        inputs = method_inputs(self, batch)
        related, weights = self._related(inputs)
        terms = self.head_terms(self._heads(related, weights, inputs), targets, batch.mask)
        terms["visual_class"] = class_loss(self._visual_classes(related, inputs.mask), targets.video, batch.mask.any(dim=1))
        share = self.config.auxiliary_weight
        return {**terms, "total": terms["event"] + (1 - share) * terms["class"] + share * terms["visual_class"]}

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """(1 - auxiliary_weight) ``video`` + auxiliary_weight ``visual_video``; means over clips."""
        inputs = method_inputs(self, batch)
        related, weights = self._related(inputs)
        assert self.visual_event_head is not None
        event = at_least_float32(self.visual_event_head(related.visual_memory)).squeeze(-1)
        visual = Heads(event, self._visual_classes(related, inputs.mask), None)
        share = self.config.auxiliary_weight
        terms = {
            "video": self.video_term(self._heads(related, weights, inputs), targets, inputs.mask, batch.mask),
            "visual_video": self.video_term(visual, targets, inputs.mask, batch.mask),
        }
        return {**terms, "total": (1 - share) * terms["video"] + share * terms["visual_video"]}
