"""CMBS: Xia and Zhao, "Cross-Modal Background Suppression for Audio-Visual Event Localization", CVPR 2022.

Published on AVE, VGG-19 + VGGish features: supervised 79.3, weak 74.2 % of segments.

CMRAN's audio-guided attention, preceded by spatial self-attention and extended by a calibration; relations within and across modalities;
gates with which each modality suppresses the background; and a sequential interaction of the modalities.

Full supervision: BiLSTMs before the relations; two heads, event and class; gamma times the per-modality scores ``av`` is added to the class
logits; the gates and ``av`` have losses of their own. ``gate_loss``: the released form ("faithful") applies another sigmoid to a product of
two sigmoids, so its term never falls below log 2 on background; "corrected" (default) takes the product as the probability.

Weak supervision (other widths and weights, no BiLSTM): each modality is scaled by the gate of its *own* memory, V (1 - alpha + alpha g_v);
class activations are weighted by gamma (s_v + s_a), with s the sigmoid of each modality's scores; r is the mean of their top 4 over time;
the clip's probabilities are P = softmax(max_t(g_t r)) with g = (g_a + g_v) / 2. ``video_loss: soft_margin`` is the released loss on P,
nearly flat; the default is the cross-entropy of P.

``weak_evaluation``: a segment gets the clip's argmax of r, which may be the background, where the event probability exceeds 0.5.
"corrected" (default) takes g as that probability. "published" is the released evaluation behind the 74.2 %: it applies another sigmoid to
g, already a probability, so every segment exceeds 0.5 and each clip gets one constant label. For comparison, answering each clip's true
class everywhere scores 82.21 % on AVE's test set.

Not kept: modules that are registered but never called (32 % of the released parameters), and float64.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.background_suppression import GateLoss, Suppressed
from pipeline.layers.co_guidance import CoGuidance
from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.multiple_instance import gated_clip_logits, video_loss
from pipeline.layers.pooling import masked_mean, max_over_time, top_k_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.layers.relation import BimodalRelation, MutualInteraction, Related, check_heads
from pipeline.methods.base import METHODS, Progress
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.localization import LocalizationMethod
from pipeline.methods.shared.suppression import Outputs, SuppressionConfig, segment_terms, suppression_of
from pipeline.methods.shared.two_heads import scores_of_heads
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets


class CmbsConfig(SuppressionConfig):
    """Defaults: the released network; narrower widths suit small data."""

    weak_defaults: ClassVar = {
        "alpha": 0.2,
        "beta": 0.5,
        "gamma": 0.5,
        "intra_feedforward": 2048,
        "interaction_heads": 2,
        "input_dropout": 0.1,
        "recipe": {"learning_rate": 6e-4, "milestones": (10, 20, 40)},
    }

    gate_loss: GateLoss = Field("corrected", description="full supervision only")
    video_loss: Literal["cross_entropy", "soft_margin"] = Field("cross_entropy", description="weak supervision; soft_margin: as released")
    weak_evaluation: Literal["corrected", "published"] = Field("corrected", description="weak supervision; published: as released")
    interaction_heads: int = Field(4, ge=1, description="weak supervision: 2")
    attention_dropout: float = Field(0.2, ge=0, lt=1, description="on the spatial self-attention's result")

    @model_validator(mode="after")
    def _interaction_divisible(self) -> Self:
        check_heads(self.width, interaction_heads=self.interaction_heads)
        return self


class WeakOutputs(NamedTuple):
    """Outputs of the weak head.

    gate: g (B, T), the probability of an event.
    clip: logits r (B, C+1).
    """

    gate: Tensor
    clip: Tensor


class WeakHead(nn.Module):
    """Gates and clip logits under weak supervision (see the module docstring); K clip labels."""

    def __init__(self, config: CmbsConfig, labels: int) -> None:
        super().__init__()
        self.visual_gate = nn.Linear(config.width, 1)
        self.audio_gate = nn.Linear(config.width, 1)
        self.visual_scores = nn.Linear(config.width, labels)
        self.audio_scores = nn.Linear(config.width, labels)
        self.interaction = MutualInteraction(config.width, config.interaction_heads, config.interaction_dropout, config.dropout)
        self.activations = nn.Linear(config.width, labels, bias=False)
        self.config = config

    def forward(self, related: Related, mask: Tensor) -> WeakOutputs:
        alpha, gamma = self.config.alpha, self.config.gamma
        visual_gate, audio_gate = self.visual_gate(related.visual_memory).sigmoid(), self.audio_gate(related.audio_memory).sigmoid()
        visual = related.visual * (1 - alpha + alpha * visual_gate)
        audio = related.audio * (1 - alpha + alpha * audio_gate)
        scores = gamma * (self.visual_scores(visual).sigmoid() + self.audio_scores(audio).sigmoid())
        activations = scores * self.activations(self.interaction(visual, audio, mask))  # (B, T, K)
        gate = at_least_float32((visual_gate + audio_gate) / 2).squeeze(-1)
        return WeakOutputs(gate, top_k_mean(at_least_float32(activations), mask, self.config.top_k))


@METHODS.register("cmbs")
class Cmbs(LocalizationMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 9,200,473 (released 13,544,537 minus 4,344,064 never called); weakly supervised 9,395,518
    (14,789,439 minus 5,393,921).
    """

    Config = CmbsConfig
    config: CmbsConfig

    def __init__(self, config: CmbsConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width = config.visual_hidden, self.audio_shape[0], config.width
        self.visual_input = nn.Sequential(nn.Linear(self.visual_shape[-1], visual), nn.ReLU(), MapDropout(config.input_dropout))
        self.guidance = CoGuidance(
            visual, audio, hidden=width, attention_width=config.attention_width, guidance="audio", released=True, beta=config.beta,
            psi=0.0, dropout=config.attention_dropout,
        )  # fmt: skip
        if not self.weak:
            self.visual_lstm, self.audio_lstm = SegmentLSTM(visual, visual), SegmentLSTM(audio, 2 * config.audio_hidden)
            audio = 2 * config.audio_hidden
        self.relation = BimodalRelation(
            visual, audio, width, config.heads, config.intra_feedforward, config.cross_feedforward, config.dropout
        )  # fmt: skip
        if self.weak:
            self.weak_head = WeakHead(config, self.clip_labels)
        else:
            self.suppression = suppression_of(config, num_classes, config.interaction_heads)
            self.event_head = nn.Linear(width, 1)
            self.class_head = nn.Linear(width, num_classes)

    def _related(self, inputs: Inputs) -> tuple[Related, Tensor | None]:
        """Inputs of the heads, and the weights of the positions (B, T, S)."""
        visual, audio, weights = self.guidance(self.visual_input(inputs.visual), inputs.audio, inputs.mask)
        if not self.weak:
            visual, audio = self.visual_lstm(visual, inputs.lengths), self.audio_lstm(audio, inputs.lengths)
        return self.relation(visual, audio, inputs.mask), weights

    def _heads(self, related: Related, mask: Tensor) -> tuple[Suppressed, Tensor, Tensor]:
        """Full supervision: gates and fusion; event logits (B, T); class logits (B, C)."""
        suppressed = self.suppression(related, mask)
        event = at_least_float32(self.event_head(suppressed.fused)).squeeze(-1)
        classes = at_least_float32(self.class_head(max_over_time(suppressed.fused, mask)))
        return suppressed, event, classes + self.config.gamma * suppressed.modality_logits

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` + ``class`` + ``gate`` + ``modality_class``; each a mean over valid segments or over clips."""
        inputs = method_inputs(self, batch)
        related, weights = self._related(inputs)
        suppressed, event_logits, class_logits = self._heads(related, inputs.mask)
        outputs = Outputs(*suppressed, event_logits, class_logits, weights)
        event, known = targets.segments < self.num_classes, batch.mask.any(dim=1)
        terms = segment_terms(outputs, event, targets.video, batch.mask, known, self.config.gate_loss)
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video``, equal to ``total``; mean over clips."""
        inputs = method_inputs(self, batch)
        outputs = self.weak_head(self._related(inputs)[0], inputs.mask)
        pooled = gated_clip_logits(outputs.gate, outputs.clip, inputs.mask)
        terms = video_loss(pooled, targets.labels.to(pooled.dtype), self.config.video_loss)
        loss = masked_mean(terms, batch.mask.any(dim=1))
        return {"video": loss, "total": loss}

    def predict(self, batch: Batch) -> Scores:
        inputs = method_inputs(self, batch)
        related, weights = self._related(inputs)
        if self.weak:
            outputs = self.weak_head(related, inputs.mask)
            event, logits = outputs.gate, outputs.clip
            if self.config.weak_evaluation == "published":
                event = event.sigmoid()
        else:
            _, event_logits, logits = self._heads(related, inputs.mask)
            event = event_logits.sigmoid()
        return scores_of_heads(event, logits, weights, self.num_classes)
