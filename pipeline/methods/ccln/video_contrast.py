"""InfoNCE across modalities under video-level labels: our reading of CCLN's weakly supervised cross-modal contrastive learning loss
(WCCL; Sun et al., IEEE TMM 2025, abstract; no equation is public).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32


def video_contrast(visual: Tensor, audio: Tensor, labels: Tensor, known: Tensor, temperature: float) -> Tensor:
    """Sound and picture of clips that share an event class attract each other, all others of the batch repel.

    L_i = -1/|P(i)| sum_{p in P(i)} log( exp(v_i.a_p / tau) / sum_j exp(v_i.a_j / tau) ), v and a of length 1; P(i) are the clips, i among
    them, that share a class with i. The mean of this direction and of the audio-to-visual one. A clip without an event shares nothing: it
    asks for no positive, but is a negative to the others.

    Args:
        visual, audio: (B, D) each, row i of the same clip, not yet normalised.
        labels: (B, C), multi-hot over event classes; zero in a clip without an event.
        known: (B,), bool; clips where it is False (padding alone) are left out altogether.
        temperature: tau > 0.

    Returns:
        Scalar, in float32 at least: the mean over the clips with an event; 0 without one.
    """
    with torch.autocast(visual.device.type, enabled=False):
        visual, audio = (normalize(at_least_float32(rows), dim=-1) for rows in (visual, audio))
        similarity = visual @ audio.T / temperature
        shared = labels.to(similarity.dtype) @ labels.to(similarity.dtype).T
        positive = (shared > 0) & known.unsqueeze(1) & known
        asking = positive.any(dim=1)
        losses = (_one_direction(similarity, positive, known) + _one_direction(similarity.T, positive, known)) / 2
        return masked_mean(losses, asking)


def _one_direction(similarity: Tensor, positive: Tensor, known: Tensor) -> Tensor:
    """(B, B) logits, rows asking; (B, B) bool, symmetric; (B,) bool -> (B,)."""
    # Finite, not -inf: a batch without a known clip has no softmax, and its gradient must be 0 and not NaN.
    logits = similarity.masked_fill(~known, torch.finfo(similarity.dtype).min)
    log_shares = logits.log_softmax(dim=-1).masked_fill(~positive, 0.0)
    return -log_shares.sum(dim=-1) / positive.sum(dim=-1).clamp(min=1)
