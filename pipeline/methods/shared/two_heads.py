"""The two heads of CMRAN and its successors: event or background per segment, and one event class per clip.

Xu et al., "Cross-Modal Relation-Aware Networks for Audio-Visual Event Localization" (CMRAN), ACM MM 2020; then CMBS and CACE-Net.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32
from pipeline.tasks.avel import Scores


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
