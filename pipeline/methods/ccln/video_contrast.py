"""CCLN's weakly supervised cross-modal contrastive loss (WCCL), as we read it: InfoNCE across modalities with video-level labels.

Sun et al., IEEE TMM 2025, abstract; no equation is public.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32


def video_contrast(visual: Tensor, audio: Tensor, labels: Tensor, known: Tensor, temperature: float) -> Tensor:
    """Contrast visual and audio embeddings: clips that share an event class attract, all others repel.

    L_i = -1/|P(i)| sum_{p in P(i)} log( exp(v_i.a_p / tau) / sum_j exp(v_i.a_j / tau) ) with v and a of unit length; P(i) are the clips
    that share a class with i, including i. Averaged with the audio-to-visual direction. A clip without an event has no positives and no
    loss, but is a negative for the others.

    Args:
        visual, audio: (B, D) each, entry i from the same clip, not yet normalised.
        labels: (B, C), multi-hot over event classes; zero for a clip without an event.
        known: (B,), bool; clips where it is False (padding only) are left out entirely.
        temperature: tau > 0.

    Returns:
        Scalar, at least float32: mean over the clips with an event; 0 without one.
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
    """Loss per clip in one direction: (B, B) logits, queries in rows; (B, B) bool, symmetric; (B,) bool -> (B,)."""
    # Finite, not -inf: a batch without known clips has no softmax, and its gradient must be 0, not NaN.
    logits = similarity.masked_fill(~known, torch.finfo(similarity.dtype).min)
    log_shares = logits.log_softmax(dim=-1).masked_fill(~positive, 0.0)
    return -log_shares.sum(dim=-1) / positive.sum(dim=-1).clamp(min=1)
