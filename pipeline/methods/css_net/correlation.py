"""CSS-Net-style selection of segments by the correlation of the modalities, and the contrast of what is selected."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32

EPSILON = 1e-8
Select = Literal["mean", "topk"]


class Selected(NamedTuple):
    """Modalities with what they took from each other, (B, T, D), and their global features, (B, D)."""

    visual: Tensor
    audio: Tensor
    visual_clip: Tensor
    audio_clip: Tensor


def select_segments(visual: Tensor, audio: Tensor, mask: Tensor, select: Select, top: int) -> Selected:
    """Add to each segment the correlated segments of the other modality.

    R is Pearson's correlation of v_t and a_s over their channels. Of each row of R the entries that are positive and at least the row's
    mean (``mean``) or among its ``top`` largest (``topk``) are kept and divided by their sum: v+ = v + R' a, and a+ = a + R'' v with R''
    from the rows of R^T. A global feature is the mean of its modality's segments, weighted by what the other's rows kept of them.

    Args:
        visual, audio: (B, T, D) each.
        mask: (B, T), bool, at least one True per clip.
    """
    correlation = at_least_float32(centred(visual) @ centred(audio).transpose(1, 2))
    to_visual, to_audio = kept(correlation, mask, select, top), kept(correlation.transpose(1, 2), mask, select, top)
    visual, audio = visual + to_visual.to(visual.dtype) @ audio, audio + to_audio.to(audio.dtype) @ visual
    return Selected(visual, audio, weighted_mean(visual, to_audio), weighted_mean(audio, to_visual))


def centred(features: Tensor) -> Tensor:
    """Features less their mean over channels, of length 1: (B, T, D) -> (B, T, D)."""
    features = at_least_float32(features)
    return normalize(features - features.mean(dim=-1, keepdim=True), dim=-1)


def kept(correlation: Tensor, mask: Tensor, select: Select, top: int) -> Tensor:
    """Shares of the entries that each row keeps: (B, T, T), (B, T) bool -> (B, T, T).

    A row sums to 1, or to 0 where none is kept.
    """
    valid = mask.unsqueeze(1) & mask.unsqueeze(2)
    if select == "mean":
        zeroed = correlation.masked_fill(~valid, 0.0)
        least = zeroed.sum(dim=-1, keepdim=True) / mask.sum(dim=1)[:, None, None]
    else:
        known = correlation.masked_fill(~valid, float("-inf"))
        least = known.topk(min(top, known.shape[-1]), dim=-1).values[..., -1:]
    shares = torch.where(valid & (correlation >= least), correlation, 0.0).clamp(min=0)
    return shares / (shares.sum(dim=-1, keepdim=True) + EPSILON)


def weighted_mean(features: Tensor, shares: Tensor) -> Tensor:
    """Mean of segments weighted by their columns' sums, or zero: (B, T, D), (B, T, T) -> (B, D)."""
    weights = shares.sum(dim=1)
    weights = weights / (weights.sum(dim=-1, keepdim=True) + EPSILON)
    return (weights.unsqueeze(-1) * at_least_float32(features)).sum(dim=1)


def clip_contrast(visual: Tensor, audio: Tensor, labels: Tensor, known: Tensor, margin: float) -> Tensor:
    """Contrast of global features: draws a clip's two modalities together, and those of clips without a common label apart.

    Mean over clips of 1 - cos(g_v, g_a) + |g_v - g_a|^2 / D, plus the mean of max(0, margin + cos(g_v,i, g_a,j)) over all pairs of clips
    that share no label.

    Args:
        visual, audio: (B, D) each.
        labels: (B, K), multi-hot, a column for the background included.
        known: (B,), bool, the clips that count.
    """
    cosines = at_least_float32(normalize(visual, dim=-1) @ normalize(audio, dim=-1).T)
    apart = ((visual - audio) ** 2).mean(dim=-1)
    others = (labels @ labels.T == 0) & known & known.unsqueeze(1)
    return masked_mean(1 - cosines.diagonal() + apart, known) + masked_mean(torch.relu(margin + cosines), others)
