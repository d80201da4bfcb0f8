"""CCLN's Foreground Event Enhancement (FEE), as we read it: separate a clip's events from its background.

FEE "emphasizes the significance of event-level boundaries by elongating the distance between scene events during training through adaptive
weights" (Sun et al., IEEE TMM 2025, abstract; no equation is public).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32


def foreground_enhancement(features: Tensor, event: Tensor, mask: Tensor, *, margin: float, temperature: float, reach: float) -> Tensor:
    """Push event and background segments of a clip ``margin`` apart, with adaptive weights.

    For a pair (i, j) of an event and a background segment of one clip, d_ij = 1 - cos(F_i, F_j) in [0, 2]. The weights w are the softmax
    over the clip's pairs of (-d_ij / temperature - (|i - j| - 1) / reach), without gradient. The clip's loss is
    sum_ij w_ij max(0, margin - d_ij), so similar pairs and pairs at a boundary weigh most.

    Args:
        features: F, (B, T, D).
        event: (B, T), bool.
        mask: (B, T), bool; padded segments form no pairs.
        margin: in [0, 2].
        temperature: > 0, of the similarity.
        reach: > 0, in segments, of the distance from the boundary.

    Returns:
        Scalar, at least float32: mean over the clips with both events and background; 0 without one.
    """
    with torch.autocast(features.device.type, enabled=False):
        directions = normalize(at_least_float32(features), dim=-1)
        similarity = directions @ directions.transpose(1, 2)
        pairs = (event & mask).unsqueeze(2) & (~event & mask).unsqueeze(1)  # (B, T, T): event, background
        place = torch.arange(features.shape[1], device=features.device)
        beyond = ((place[:, None] - place).abs() - 1).to(similarity.dtype)
        logits = similarity.detach() / temperature - beyond / reach  # -d and similarity differ by a constant
        # Finite, not -inf: a clip without pairs has no softmax, and its gradient must be 0, not NaN.
        logits = logits.masked_fill(~pairs, torch.finfo(logits.dtype).min)
        weights = logits.flatten(1).softmax(dim=-1).unflatten(1, logits.shape[1:])
        losses = (weights * torch.relu(margin - 1 + similarity)).sum(dim=(1, 2))
        return masked_mean(losses, pairs.any(dim=2).any(dim=1))
