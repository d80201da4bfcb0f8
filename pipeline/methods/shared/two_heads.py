"""The two heads of CMRAN and its successors: event or background per segment, and one event class per clip.

Xu et al., "Cross-Modal Relation-Aware Networks for Audio-Visual Event Localization" (CMRAN), ACM MM 2020; then CMBS and CACE-Net.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pipeline.batch import Batch
from pipeline.layers.multiple_instance import VideoLoss, gated_clip_logits, video_loss
from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.methods.base import Progress, Recipe
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.localization import LocalizationMethod, SupervisionConfig
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets


class TwoHeadRecipe(Recipe):
    """Adam 5e-4, halved at epochs 10, 20 and 30 of 200, batches of 32, gradient norm at most 0.1."""

    learning_rate: float = Field(5e-4, gt=0)
    batch_size: int = Field(32, ge=1)
    epochs: int = Field(200, ge=1)
    milestones: tuple[int, ...] = (10, 20, 30)
    decay: float = Field(0.5, gt=0, le=1)
    clip_norm: float | None = Field(0.1, gt=0)


def event_loss(logits: Tensor, event: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of event logits (B, T) with event segments (B, T), bool; mean over valid segments."""
    return masked_mean(binary_cross_entropy_with_logits(logits, event.to(logits.dtype), reduction="none"), mask)


def class_loss(logits: Tensor, video: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of class logits (B, C) with the clips' classes (B,) in [0, C].

    Mean over the clips marked by ``known`` (B,). A clip without an event (C) counts as class 0, as released (there the argmax of an empty
    label vector is 0).
    """
    classes = video.where(video < logits.shape[-1], torch.zeros_like(video))
    return masked_mean(cross_entropy(logits, classes, reduction="none"), known)


def joint_probabilities(event: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """P(event) P(class) for each class; the background gets the remainder.

    Args:
        event: (B, T), probability of an event.
        classes: (B, C), or (B, C+1) with the probability that the whole clip is background.
        num_classes: C.

    Returns:
        (B, T, C+1), summing to 1.
    """
    joint = event.unsqueeze(-1) * classes.unsqueeze(1)
    background = 1 - event + joint[..., num_classes:].sum(dim=-1)
    return torch.cat([joint[..., :num_classes], background.unsqueeze(-1)], dim=-1)


def scores_of_heads(event: Tensor, class_logits: Tensor, attention: Tensor | None, num_classes: int) -> Scores:
    """Scores from both heads; ``segments`` is their product, see :func:`joint_probabilities`.

    Args:
        event: (B, T), probability of an event.
        class_logits: (B, C) or (B, C+1).
        attention: (B, T, S) or None.
        num_classes: C.
    """
    classes = class_logits.softmax(dim=-1)
    weights = None if attention is None else at_least_float32(attention)
    return Scores(joint_probabilities(event, classes, num_classes), event, classes, weights)


class RelationConfig(SupervisionConfig):
    """Settings of CMRAN's network, which DMIN inherited; the defaults are CMRAN's."""

    weak_defaults: ClassVar = {"interaction_heads": 2, "recipe": {"milestones": (5, 20, 40), "clip_norm": 0.5}}

    video_loss: Literal["cross_entropy", "soft_margin"] = Field("cross_entropy", description="weak supervision; soft_margin: as released")
    visual_hidden: int = Field(512, ge=1, description="width of projected positions")
    width: int = Field(256, ge=1, description="d, in the relations and in the attention's hidden layers")
    heads: int = Field(4, ge=1, description="of the relations")
    interaction_heads: int = Field(4, ge=1, description="weak supervision: 2")
    feedforward: int = Field(2048, ge=1, description="hidden width in the relation blocks")
    input_dropout: float = Field(0.2, ge=0, lt=1, description="on projected positions")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the relation and interaction blocks")
    recipe: TwoHeadRecipe = TwoHeadRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads, interaction_heads=self.interaction_heads)
        return self

    @property
    def attends_to_positions(self) -> bool:
        return True


class Heads(NamedTuple):
    """What both heads say.

    event: logits (B, T).
    classes: logits (B, C), or (B, C+1) under weak supervision.
    attention: weights of the positions (B, T, S) or None.
    """

    event: Tensor
    classes: Tensor
    attention: Tensor | None


class TwoHeadMethod(LocalizationMethod):
    """A method of both heads that learns as CMRAN does: from segments, or from clips by gated clip logits."""

    @property
    def video_form(self) -> VideoLoss:
        """Form of the clip loss under weak supervision."""
        return "cross_entropy"

    @property
    def event_threshold(self) -> float:
        """Probability from which a segment is an event: predicted probabilities are shifted in the log odds, this one to 0.5."""
        return 0.5

    @abstractmethod
    def heads(self, inputs: Inputs) -> Heads:
        """The network."""

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` (mean over valid segments) + ``class`` (mean over clips)."""
        terms = self.head_terms(self.heads(method_inputs(self, batch)), targets, batch.mask)
        return {**terms, "total": terms["event"] + terms["class"]}

    def head_terms(self, heads: Heads, targets: AvelTargets, mask: Tensor) -> dict[str, Tensor]:
        """The losses ``event`` and ``class`` under full supervision."""
        return {
            "event": event_loss(heads.event, targets.segments < self.num_classes, mask),
            "class": class_loss(heads.classes, targets.video, mask.any(dim=1)),
        }

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video``, equal to ``total``; mean over clips."""
        inputs = method_inputs(self, batch)
        loss = self.video_term(self.heads(inputs), targets, inputs.mask, batch.mask)
        return {"video": loss, "total": loss}

    def video_term(self, heads: Heads, targets: VideoTargets, mask: Tensor, known: Tensor) -> Tensor:
        """The loss ``video`` under weak supervision.

        Args:
            mask: (B, T), bool, at least one True per clip.
            known: (B, T), bool, the batch's own mask; a clip without a valid segment has no weight.
        """
        pooled = gated_clip_logits(heads.event.sigmoid(), heads.classes, mask)
        return masked_mean(video_loss(pooled, targets.labels.to(pooled.dtype), self.video_form), known.any(dim=1))

    def predict(self, batch: Batch) -> Scores:
        heads = self.heads(method_inputs(self, batch))
        shift = math.log(self.event_threshold / (1 - self.event_threshold))
        return scores_of_heads((heads.event - shift).sigmoid(), heads.classes, heads.attention, self.num_classes)
