"""Pooling over the valid segments of a clip.

With a score per class these are the pooling rules of multiple-instance learning: the strongest segments decide for the clip.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where ``mask`` is true; 0 without any.

    Args:
        values: any shape, float.
        mask: the same shape, bool.
    """
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum() / mask.sum().clamp(min=1)


def mean_over_time(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over valid segments, at least one per clip: (B, T, D), (B, T) bool -> (B, D)."""
    valid = mask.unsqueeze(-1)
    return values.masked_fill(~valid, 0.0).sum(dim=1) / valid.sum(dim=1)


def mean_over_positions(values: Tensor) -> Tensor:
    """Mean over positions, (..., S, D) -> (..., D), with a cheaper backward pass than ``mean``.

    The backward pass of ``mean`` writes the divided gradient at every position; that of a divided sum only expands a view of it.
    """
    return values.sum(dim=-2) / values.shape[-2]


def max_over_time(values: Tensor, mask: Tensor) -> Tensor:
    """Maximum over valid segments, at least one per clip: (B, T, D), (B, T) bool -> (B, D)."""
    return values.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(dim=1)


def top_k_mean(values: Tensor, mask: Tensor, k: int) -> Tensor:
    """Mean of the k largest values over time, per clip and channel, or of all valid ones if fewer.

    Args:
        values: (B, T, D).
        mask: (B, T), bool, at least one True per clip.

    Returns:
        (B, D).
    """
    valid = mask.unsqueeze(-1)
    top = values.masked_fill(~valid, float("-inf")).topk(min(k, values.shape[1]), dim=1).values
    counts = valid.sum(dim=1).clamp(max=k)
    return top.masked_fill(top.isneginf(), 0.0).sum(dim=1) / counts
