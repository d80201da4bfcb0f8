"""Recipe, network settings, outputs and loss terms shared by CMBS, CACE-Net and CCLN.

Introduced by CMBS (Xia and Zhao, CVPR 2022), here as released; the gates are in :mod:`pipeline.layers.background_suppression`.
K is the number of clip labels: C classes, or C+1 under weak supervision.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import Field, model_validator
from torch import Tensor

from pipeline.layers.background_suppression import BackgroundSuppression, GateLoss, gate_loss
from pipeline.layers.multiple_instance import gated_clip_logits, video_loss
from pipeline.layers.pooling import masked_mean
from pipeline.layers.relation import check_heads
from pipeline.methods.base import Recipe
from pipeline.methods.shared.localization import SupervisionConfig
from pipeline.methods.shared.two_heads import class_loss, event_loss


class SuppressionRecipe(Recipe):
    """Adam 7e-4, halved at epochs 10, 20 and 30 of 200, batches of 64, gradient norm at most 0.5."""

    learning_rate: float = Field(7e-4, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(200, ge=1)
    milestones: tuple[int, ...] = (10, 20, 30)
    decay: float = Field(0.5, gt=0, le=1)
    clip_norm: float | None = Field(0.5, gt=0)


class SuppressionConfig(SupervisionConfig):
    """Settings of the shared network; the defaults are CMBS's under full supervision."""

    alpha: float = Field(0.1, ge=0, description="strength of the background suppression by the gates")
    beta: float = Field(0.4, ge=0, description="strength of the calibration of the visual features")
    gamma: float = Field(0.3, ge=0, description="weight of the per-modality scores in the class logits")
    top_k: int = Field(4, ge=1, description="number of top segments averaged into a clip's per-modality scores")
    visual_hidden: int = Field(512, ge=2, description="width of projected positions and of the visual BiLSTM's output")
    audio_hidden: int = Field(128, ge=1, description="width of one direction of the audio BiLSTM")
    attention_width: int = Field(128, ge=1, description="width of queries and keys in the spatial self-attention")
    width: int = Field(256, ge=1, description="d, after the BiLSTMs and in the guidance's hidden layers")
    heads: int = Field(4, ge=1, description="of the relations; in CACE-Net and CCLN also of the interaction")
    intra_feedforward: int = Field(1024, ge=1, description="within each modality")
    cross_feedforward: int = Field(1024, ge=1, description="across the modalities")
    input_dropout: float = Field(0.2, ge=0, lt=1, description="on projected positions; in CACE-Net and CCLN also in the guidance")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the relation and interaction blocks")
    interaction_dropout: float = Field(0.2, ge=0, lt=1, description="on the interaction's attention weights")
    recipe: SuppressionRecipe = SuppressionRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        if self.visual_hidden % 2:
            raise ValueError(f"visual_hidden ({self.visual_hidden}) must be even: the two directions of a BiLSTM share it")
        return self

    @property
    def attends_to_positions(self) -> bool:
        return True


def suppression_of(config: SuppressionConfig, labels: int, heads: int) -> BackgroundSuppression:
    """Build the gates and the interaction for K ``labels``, with ``heads`` attention heads in the interaction."""
    return BackgroundSuppression(
        config.width, labels, alpha=config.alpha, top_k=config.top_k, heads=heads, attention_dropout=config.interaction_dropout,
        dropout=config.dropout,
    )  # fmt: skip


class Outputs(NamedTuple):
    """Outputs of the shared network.

    fused: F_av (B, T, d).
    modality_logits: per-modality (av) logits (B, K).
    audio_gate, visual_gate: gate logits (B, T).
    event_logits: (B, T).
    class_logits: (B, K).
    attention: weights of the positions (B, T, S) or None.
    """

    fused: Tensor
    modality_logits: Tensor
    audio_gate: Tensor
    visual_gate: Tensor
    event_logits: Tensor
    class_logits: Tensor
    attention: Tensor | None


def segment_terms(outputs: Outputs, event: Tensor, video: Tensor, mask: Tensor, known: Tensor, form: GateLoss) -> dict[str, Tensor]:
    """``event``, ``class``, ``gate``, ``modality_class``: the losses under full supervision.

    Each is a mean over valid segments or over clips.

    Args:
        event: (B, T), bool, the event segments.
        video: (B,), the clips' classes.
        mask: (B, T), bool.
        known: (B,), bool, the clips that count in the class terms.
        form: form of the gate loss.
    """
    gates = gate_loss(outputs.audio_gate, outputs.visual_gate, event.to(outputs.event_logits.dtype), form)
    return {
        "event": event_loss(outputs.event_logits, event, mask),
        "class": class_loss(outputs.class_logits, video, known),
        "gate": masked_mean(gates, mask),
        "modality_class": class_loss(outputs.modality_logits, video, known),
    }


def clip_terms(outputs: Outputs, labels: Tensor, mask: Tensor, known: Tensor) -> dict[str, Tensor]:
    """``video``, ``modality_video``: our losses from clip labels, means over clips.

    Cross-entropy of max_t(sigmoid(event_t) r), with r the class logits, and of the per-modality scores.

    Args:
        labels: (B, C+1), in the dtype of the logits.
        mask: (B, T), bool, at least one True per clip.
        known: (B,), bool, the clips that count.
    """
    pooled = gated_clip_logits(outputs.event_logits.sigmoid(), outputs.class_logits, mask)
    return {
        "video": masked_mean(video_loss(pooled, labels, "cross_entropy"), known),
        "modality_video": masked_mean(video_loss(outputs.modality_logits, labels, "cross_entropy"), known),
    }


def supposed_events(event_logits: Tensor, labels: Tensor) -> Tensor:
    """Segments that the event head marks, in clips labelled with an event: (B, T), (B, C+1) -> (B, T) bool."""
    return (event_logits > 0) & (labels[:, :-1].sum(dim=1, keepdim=True) > 0)
