"""Losses of audio-visual video parsing, from labels of clips or of segments, and the contrast of the two streams.

B batch, T segments, C classes, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32

MARGIN = 1e-7  # as released: a probability counts as no nearer to 0 or 1, and has no gradient beyond


def smoothed(labels: Tensor, share: float) -> Tensor:
    """share * y + (1 - share) / 2."""
    return share * labels + (1 - share) / 2


def binary_terms(probability: Tensor, target: Tensor) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)), element by element."""
    p = at_least_float32(probability).clamp(MARGIN, 1 - MARGIN)
    return -(target * p.log() + (1 - target) * torch.log1p(-p))


def binary_loss(probability: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean of :func:`binary_terms` over the clips that count and all classes: (B, C), (B, C), (B,) bool -> scalar; 0 where none counts."""
    return masked_mean(binary_terms(probability, target), counted.unsqueeze(1).expand_as(probability))


def segment_loss(probability: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean of :func:`binary_terms` over valid segments and all classes: (B, T, C), (B, T, C), (B, T) bool -> scalar; 0 without any."""
    return masked_mean(binary_terms(probability, target), mask.unsqueeze(-1).expand_as(probability))


def stream_contrast(audio: Tensor, visual: Tensor, mask: Tensor, temperature: float = 0.2, smoothing: float = 0.1) -> Tensor:
    """-log(0.9 q_t + (0.1 / (T - 1)) sum_{n != t} q_n), q = softmax over n of cos(a_t, v_n) / temperature: what is heard in a segment is
    nearer to what is seen in it than to what is seen in the clip's other segments (JoMoLD, as released: the logarithm of the mixture).

    Args:
        audio, visual: (B, T, D).
        mask: (B, T), bool; T is the number of valid segments of each clip.

    Returns:
        Scalar, mean over valid segments; 0 without any.
    """
    with torch.autocast(audio.device.type, enabled=False):
        a, v = (torch.nn.functional.normalize(at_least_float32(stream), dim=-1) for stream in (audio, visual))
        # Finite, not -inf: a clip of padding alone has no candidate, and its gradient must be 0 and not NaN.
        similarity = (a @ v.transpose(1, 2) / temperature).masked_fill(~mask.unsqueeze(1), torch.finfo(a.dtype).min)
        own = similarity.softmax(dim=-1).diagonal(dim1=1, dim2=2)  # (B, T)
        others = (mask.sum(dim=1, keepdim=True) - 1).clamp(min=1).to(own.dtype)
        mixture = (1 - smoothing) * own + smoothing / others * (1 - own)
        return masked_mean(-mixture.clamp(min=MARGIN).log(), mask)
