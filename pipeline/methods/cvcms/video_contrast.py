"""CVCMS's contrast of clips: a clip's audio resembles the visual stream of every clip that shares a class.

Shape letters: B clips, N clips and mixtures of two clips, T segments, C classes, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32

LEAST = 1e-10  # as released: added to the number of a clip's positives


def other_clips(count: int, device: torch.device) -> Tensor:
    """For each of ``count`` clips, at least two, another one of them, each as likely: (count,) int64."""
    return (torch.arange(count, device=device) + torch.randint(1, count, (count,), device=device)) % count


def of_classes(stream: Tensor, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean of a stream over time, weighted by how much a segment shows of the labels.

    The weights are the softmax over t of sum_c w_tc r_c.

    Args:
        stream: (N, T, D).
        scores: w, of the attention over time, (N, T, C).
        labels: r, (N, C).
        mask: (N, T), bool, with a True in every clip.

    Returns:
        (N, D), in float32 at least.
    """
    with torch.autocast(stream.device.type, enabled=False):
        weights = (at_least_float32(scores) * labels.unsqueeze(1)).sum(dim=2).masked_fill(~mask, float("-inf")).softmax(dim=1)
        return (weights.unsqueeze(-1) * at_least_float32(stream)).sum(dim=1)


def video_contrast(
    audio: Tensor, visual: Tensor, audio_labels: Tensor, visual_labels: Tensor, counted: Tensor, temperature: float
) -> Tensor:  # fmt: skip
    """Mean over i of -sum_j Q_ij log softmax_j cos(audio_i, visual_j) / temperature.

    Q_ij = 1 if audio i and visual stream j have a class in common, divided by the number of such j; a clip without any has no loss.

    Args:
        audio, visual: (N, D).
        audio_labels, visual_labels: (N, C).
        counted: (N,), bool; other clips are neither i nor j.
    """
    with torch.autocast(audio.device.type, enabled=False):
        similarity = normalize(audio, dim=-1) @ normalize(visual, dim=-1).T / temperature
        # Finite, not -inf: without any counted clip the gradient must be 0 and not NaN.
        shares = similarity.masked_fill(~counted, torch.finfo(similarity.dtype).min).log_softmax(dim=1).masked_fill(~counted, 0.0)
        common = ((audio_labels @ visual_labels.T > 0) & counted).to(shares.dtype)
        wanted = common / (common.sum(dim=1, keepdim=True) + LEAST)
        return masked_mean(-(wanted * shares).sum(dim=1), counted)
