"""CMBS: Xia and Zhao, "Cross-Modal Background Suppression for Audio-Visual Event Localization", CVPR 2022.
Published on AVE, VGG-19 + VGGish features: supervised 79.3, weak 74.2 % of segments.

CMRAN's audio-guided attention after a spatial self-attention and with a calibration, relations within and across modalities, gates by
which each modality suppresses the background, and an interaction of both, seen one after the other.

Supervised: BiLSTMs before the relations; two heads, event and class; class logits are raised by gamma times the scores ``av`` of each
modality alone; the gates and ``av`` have losses of their own. ``gate_loss``: the released form ("faithful") squashes a product of two
sigmoids once more, so that its term never falls below log 2 on background; "corrected" (default) takes the product as the probability.

Weakly supervised (other widths and weights, no BiLSTM): each modality is scaled by its *own* memory's gate, V (1 - alpha + alpha g_v);
class activations are weighed by gamma (s_v + s_a), s = sigmoid of each modality's scores; r = mean of their top 4 over time; the clip's
probabilities are P = softmax(max_t(g_t r)), g = (g_a + g_v) / 2. ``video_loss: soft_margin`` is the released loss on P, nearly flat; the
default is the cross-entropy of P.

``weak_evaluation``: the decision takes the clip's argmax of r, which may be the background, where the event probability is above 0.5.
"corrected" (default) takes g as that probability. "published" is the released evaluation behind the 74.2 %: it squashes g, a probability
already, once more, so that every segment is above 0.5 and gets the clip's label: one constant label per clip. Read it against the answer
that knows each clip's class, which scores 82.21 % on AVE's test set.

Not kept: modules that are registered and never called (32 % of the released parameters), and float64.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.layers.background_suppression import BackgroundSuppression, GateLoss, Suppressed, gate_loss
from pipeline.layers.co_guidance import CoGuidance
from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.multiple_instance import gated_clip_logits, video_loss
from pipeline.layers.pooling import masked_mean, max_over_time, top_k_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.layers.relation import BimodalRelation, MutualInteraction, Related, check_heads
from pipeline.methods.base import (
    METHODS,
    AvelTargets,
    Batch,
    LocalizationMethod,
    Progress,
    Recipe,
    Scores,
    SupervisionConfig,
    VideoTargets,
)
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.two_heads import class_loss, event_loss, joint_probabilities


class CmbsRecipe(Recipe):
    """Adam 7e-4, halved at epochs 10, 20 and 30 of 200, batches of 64, gradients clipped to a norm of 0.5."""

    learning_rate: float = Field(7e-4, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(200, ge=1)
    milestones: tuple[int, ...] = (10, 20, 30)
    decay: float = Field(0.5, gt=0, le=1)
    clip_norm: float | None = Field(0.5, gt=0)


class CmbsConfig(SupervisionConfig):
    """Defaults are the released network; narrow widths suit small data."""

    weak_defaults: ClassVar = {
        "alpha": 0.2,
        "beta": 0.5,
        "gamma": 0.5,
        "intra_feedforward": 2048,
        "interaction_heads": 2,
        "input_dropout": 0.1,
        "recipe": {"learning_rate": 6e-4, "milestones": (10, 20, 40)},
    }

    gate_loss: GateLoss = Field("corrected", description="full supervision")
    video_loss: Literal["cross_entropy", "soft_margin"] = Field("cross_entropy", description="weak supervision; soft_margin: as released")
    weak_evaluation: Literal["corrected", "published"] = "corrected"
    alpha: float = Field(0.1, ge=0, description="strength of the gates; weak supervision: 0.2")
    beta: float = Field(0.4, ge=0, description="calibration of the visual features; weak supervision: 0.5")
    gamma: float = Field(0.3, ge=0, description="weight of the per-modality scores; weak supervision: 0.5")
    top_k: int = Field(4, ge=1, description="segments that make a clip's score")
    visual_hidden: int = Field(512, ge=2, description="every position is projected to this; also the visual BiLSTM's output")
    audio_hidden: int = Field(128, ge=1, description="of one direction of the audio BiLSTM (full supervision)")
    attention_width: int = Field(128, ge=1, description="queries and keys of the spatial self-attention")
    width: int = Field(256, ge=1, description="d of the relations, and of the attention's hidden layers")
    heads: int = Field(4, ge=1, description="of the relations")
    interaction_heads: int = Field(4, ge=1, description="weak supervision: 2")
    intra_feedforward: int = Field(1024, ge=1, description="weak supervision: 2048")
    cross_feedforward: int = Field(1024, ge=1)
    input_dropout: float = Field(0.2, ge=0, lt=1, description="on projected positions; weak supervision: 0.1")
    attention_dropout: float = Field(0.2, ge=0, lt=1, description="on the spatial self-attention's result")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the relation and interaction blocks")
    interaction_dropout: float = Field(0.2, ge=0, lt=1, description="on the interaction's attention weights")
    recipe: CmbsRecipe = CmbsRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads, interaction_heads=self.interaction_heads)
        if self.visual_hidden % 2:
            raise ValueError(f"visual_hidden ({self.visual_hidden}) must be even: two directions of a BiLSTM share it")
        return self


class WeakOutputs(NamedTuple):
    """gate g (B, T), the probability of an event; clip logits r (B, C+1)."""

    gate: Tensor
    clip: Tensor


class WeakHead(nn.Module):
    """From related modalities to gates and clip logits, as the module's docstring says; K labels of a clip."""

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
    """The whole network; every registered parameter is used: at 7x7x512 / 128, C = 28 they are 9,200,473 (released 13,544,537 less
    4,344,064 that are never called), weakly supervised 9,395,518 (14,789,439 less 5,393,921)."""

    tasks = frozenset({"avel"})
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
            self.suppression = BackgroundSuppression(
                width, num_classes, alpha=config.alpha, top_k=config.top_k, heads=config.interaction_heads,
                attention_dropout=config.interaction_dropout, dropout=config.dropout,
            )  # fmt: skip
            self.event_head = nn.Linear(width, 1)
            self.class_head = nn.Linear(width, num_classes)

    def _related(self, inputs: Inputs) -> tuple[Related, Tensor | None]:
        """What the heads see, and the weights of the positions (B, T, S)."""
        visual, audio, weights = self.guidance(self.visual_input(inputs.visual), inputs.audio, inputs.mask)
        if not self.weak:
            visual, audio = self.visual_lstm(visual, inputs.mask), self.audio_lstm(audio, inputs.mask)
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
        suppressed, event_logits, class_logits = self._heads(self._related(inputs)[0], inputs.mask)
        event, known = targets.segments < self.num_classes, batch.mask.any(dim=1)
        gates = gate_loss(suppressed.audio_gate, suppressed.visual_gate, event.to(event_logits.dtype), self.config.gate_loss)
        terms = {
            "event": event_loss(event_logits, event, batch.mask),
            "class": class_loss(class_logits, targets.video, known),
            "gate": masked_mean(gates, batch.mask),
            "modality_class": class_loss(suppressed.modality_logits, targets.video, known),
        }
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video``, which is also ``total``; mean over clips."""
        inputs = method_inputs(self, batch)
        outputs = self.weak_head(self._related(inputs)[0], inputs.mask)
        pooled = gated_clip_logits(outputs.gate, outputs.clip, inputs.mask)
        terms = video_loss(pooled, targets.labels.to(pooled.dtype), self.config.video_loss)
        loss = masked_mean(terms, batch.mask.any(dim=1))
        return {"video": loss, "total": loss}

    def predict(self, batch: Batch) -> Scores:
        """Both heads; ``segments`` is their product, as in :func:`joint_probabilities`."""
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
        classes = logits.softmax(dim=-1)
        attention = None if weights is None else at_least_float32(weights)
        return Scores(joint_probabilities(event, classes, self.num_classes), event, classes, attention)
