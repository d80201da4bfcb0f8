"""CPSP's two losses of positive samples: between the segments of a clip, and between the clips of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32


def segment_activation(fused: Tensor, event: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """PSA_s: event segments of a clip resemble each other more than its background, as the paper means it.

    -log(P / (P + N)) for each event segment, with P the sum over the clip's event segments (itself included) and N the mean over its
    background segments of exp(cosine / temperature); mean over a clip's event segments, then over clips with an event. A clip without
    background adds 0.

    Args:
        fused: (B, T, D).
        event, mask: (B, T), bool.
    """
    unit = normalize(fused, dim=-1)
    similar = (at_least_float32(unit @ unit.transpose(1, 2)) / temperature).exp()
    event, background = event & mask, ~event & mask
    positive = (similar * event.unsqueeze(1)).sum(dim=-1)
    negative = (similar * background.unsqueeze(1)).sum(dim=-1) / background.sum(dim=1, keepdim=True).clamp(min=1)
    terms = torch.where(event, torch.log1p(negative / positive.clamp(min=1e-12)), 0.0).sum(dim=1) / event.sum(dim=1).clamp(min=1)
    return masked_mean(terms, event.any(dim=1))


def video_activation(fused: Tensor, mask: Tensor, labels: Tensor, known: Tensor, margin: float, negatives: int) -> Tensor:
    """PSA_v: a clip lies nearer to its own class than to others.

    max(0, margin + distance of the farthest own - mean distance of the nearest others). A clip's vector is the mean of its segments, each
    of length 1; distances are Euclidean. Itself counts as its own class.

    Args:
        fused: (B, T, D).
        mask: (B, T), bool, at least one True per clip.
        labels: (B, K), multi-hot, a column for the background included; clips of one class share a label.
        known: (B,), bool, the clips that count.
        negatives: number of nearest clips of other classes that are averaged, or as many as the batch has.

    Returns:
        Mean over the counting clips that have others; 0 without any.
    """
    unit = normalize(fused, dim=-1).masked_fill(~mask.unsqueeze(-1), 0.0)
    clips = unit.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    squares = ((clips.unsqueeze(1) - clips) ** 2).sum(dim=-1)
    apart = squares > 0
    distances = torch.where(apart, squares, 1.0).sqrt().where(apart, 0.0)  # where, because the slope of a root is infinite at 0
    both, same = known.unsqueeze(1) & known, labels @ labels.T > 0
    farthest = torch.where(same & both, distances, 0.0).amax(dim=1)
    near = distances.masked_fill(same | ~both, float("inf")).topk(min(negatives, len(clips)), largest=False).values
    found = near.isfinite()
    nearest = torch.where(found, near, 0.0).sum(dim=1) / found.sum(dim=1).clamp(min=1)
    return masked_mean(torch.relu(margin + farthest - nearest), known & found.any(dim=1))
