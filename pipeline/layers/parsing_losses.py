"""Losses of audio-visual video parsing, from labels of clips or of segments, and the contrast of the two streams.

B batch, T segments, C classes, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32

MARGIN = 1e-7  # as released: probabilities are clamped this far from 0 and 1, and have no gradient beyond


def smoothed(labels: Tensor, share: float) -> Tensor:
    """Smooth labels y: share * y + (1 - share) / 2."""
    return share * labels + (1 - share) / 2


def binary_terms(probability: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy -(y log p + (1 - y) log(1 - p)), element by element."""
    p = at_least_float32(probability).clamp(MARGIN, 1 - MARGIN)
    return -(target * p.log() + (1 - target) * torch.log1p(-p))


def binary_loss(probability: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean of :func:`binary_terms` over the counted clips and all classes, 0 without any.

    (B, C), (B, C), (B,) bool -> scalar.
    """
    return masked_mean(binary_terms(probability, target), counted.unsqueeze(1).expand_as(probability))


def segment_loss(probability: Tensor, target: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of :func:`binary_terms` over valid segments and all classes, 0 without any.

    Args:
        probability: (..., T, C).
        target: (..., T, C), in [0, 1].
        mask: (..., T), bool.
        weights: factors on the terms, of a shape that expands to theirs; None: 1. The mean's divisor is the number of terms all the same.
    """
    terms = binary_terms(probability, target)
    return masked_mean(terms if weights is None else weights * terms, mask.unsqueeze(-1).expand_as(probability))


def mixture_terms(queries: Tensor, keys: Tensor, mask: Tensor, temperature: float = 0.2, smoothing: float = 0.1) -> Tensor:
    """Contrast of each query with its own key, as the logarithm of a mixture (JoMoLD, as released).

    -log(0.9 q_t + (0.1 / (T - 1)) sum_{n != t} q_n), q = softmax over n of cos(query_t, key_n) / temperature.

    Args:
        queries, keys: (B, T, D).
        mask: (B, T), bool; T is the number of valid segments of each clip.

    Returns:
        (B, T), meaningless in padded segments.
    """
    own = _similarity(queries, keys, mask, temperature).softmax(dim=-1).diagonal(dim1=1, dim2=2)  # (B, T)
    mixture = (1 - smoothing) * own + smoothing / _others(mask, own.dtype) * (1 - own)
    return -mixture.clamp(min=MARGIN).log()


def stream_contrast(audio: Tensor, visual: Tensor, mask: Tensor) -> Tensor:
    """Mean of :func:`mixture_terms` over valid segments, 0 without any.

    It pulls a segment's audio towards its own visual features, away from those of the clip's other segments.

    Args:
        audio, visual: (B, T, D).
        mask: (B, T), bool.
    """
    return masked_mean(mixture_terms(audio, visual, mask), mask)


def smoothed_stream_contrast(audio: Tensor, visual: Tensor, mask: Tensor, temperature: float = 0.2, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy with smoothed labels (MA, as released); otherwise as :func:`stream_contrast`.

    -0.9 log q_t - (0.1 / (T - 1)) sum_{n != t} log q_n.
    """
    log_q = _similarity(audio, visual, mask, temperature).log_softmax(dim=-1).masked_fill(~mask.unsqueeze(1), 0.0)
    own = log_q.diagonal(dim1=1, dim2=2)
    return masked_mean(-(1 - smoothing) * own - smoothing / _others(mask, own.dtype) * (log_q.sum(dim=-1) - own), mask)


def _similarity(queries: Tensor, keys: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Similarity cos(query_t, key_n) / temperature, (B, T, T), in float32 at least; the least finite number where n is padding."""
    with torch.autocast(queries.device.type, enabled=False):
        a, v = (torch.nn.functional.normalize(at_least_float32(stream), dim=-1) for stream in (queries, keys))
        # Finite, not -inf: a clip of padding alone has no candidate, and its gradient must be 0 and not NaN.
        return (a @ v.transpose(1, 2) / temperature).masked_fill(~mask.unsqueeze(1), torch.finfo(a.dtype).min)


def _others(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Number of a clip's other valid segments, (B, 1), but at least 1."""
    return (mask.sum(dim=1, keepdim=True) - 1).clamp(min=1).to(dtype)
