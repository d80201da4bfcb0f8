"""Background-event contrast (BECE): He et al., "CACE-Net", ACM MM 2024, Sec. 3.3, Eq. 7, and the augmentations of Table S4(a)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32

Augmentation = Literal["noise", "channel_mask", "mixup"]


def augmented_twin(features: Tensor, mask: Tensor, kind: Augmentation, strength: float) -> Tensor:
    """Perturbed copy of each segment, for the contrast.

    Args:
        features: (B, T, D).
        mask: (B, T), bool; False: padding.
        kind, strength: ``noise``: add Gaussian noise of this standard deviation. ``channel_mask``: set this share of the channels to zero,
            drawn per clip and equal for all its segments. ``mixup``: add ``strength`` times the segment at the same time in another clip of
            the batch, by one permutation of the clips (nothing where that clip has ended).

    Returns:
        (B, T, D).
    """
    if kind == "noise":
        return features + strength * torch.randn_like(features)
    if kind == "channel_mask":
        clips, _, width = features.shape
        return features.masked_fill(torch.rand(clips, 1, width, device=features.device) < strength, 0.0)
    others = torch.randperm(len(features), device=features.device)
    return features + strength * features.masked_fill(~mask.unsqueeze(-1), 0.0)[others]


def background_event_contrast(query: Tensor, key: Tensor, event: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Supervised contrast within each clip, over its T segments and their T augmented twins.

    Among the 2T vectors f = [q; k], the positives K(i) of an event are all other events (2n - 1 with n event segments); the only positive
    of a background segment is its own twin. L_i = -log((1/|K(i)|) sum_{k in K(i)} exp(f_i.f_k/tau) / sum_{p != i} exp(f_i.f_p/tau)),
    averaged over all vectors.

    Args:
        query: (B, T, D), encoded segments, not yet normalised.
        key: (B, T, D), encoded augmented segments, not yet normalised.
        event: (B, T), bool.
        mask: (B, T), bool; padded segments have no loss and are no candidates.
        temperature: tau > 0.

    Returns:
        Scalar, at least float32; 0 without a valid segment.
    """
    return masked_mean(contrast_terms(query, key, event, mask, temperature), mask.repeat(1, 2))


def contrast_terms(query: Tensor, key: Tensor, event: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """L_i of :func:`background_event_contrast` for all 2T vectors of each clip: (B, 2T), meaningless in padding.

    Computed in log space, because exp(1/tau) overflows float32 at the released tau = 0.01.
    """
    with torch.autocast(query.device.type, enabled=False):
        rows = torch.cat([at_least_float32(query), at_least_float32(key)], dim=1)
        rows = torch.nn.functional.normalize(rows, dim=-1)
        similarity = rows @ rows.transpose(1, 2) / temperature  # (B, 2T, 2T)
        positive, candidate = _pairs(event, mask)
        # Finite, not -inf: a padded segment has no candidates, and its gradient must be 0, not NaN.
        excluded = torch.finfo(similarity.dtype).min
        numerator = similarity.masked_fill(~positive, excluded).logsumexp(dim=-1)
        denominator = similarity.masked_fill(~candidate, excluded).logsumexp(dim=-1)
        return denominator - numerator + positive.sum(dim=-1).clamp(min=1).to(similarity.dtype).log()


def _pairs(event: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positive pairs and candidate pairs of the 2T vectors: (B, T), (B, T) bool -> (B, 2T, 2T) bool each."""
    segments = event.shape[1]
    own = torch.eye(2 * segments, dtype=torch.bool, device=event.device)
    twin = own.roll(segments, dims=1)
    events, valid = event.repeat(1, 2), mask.repeat(1, 2)
    both_events = events.unsqueeze(2) & events.unsqueeze(1)
    background = ~events.unsqueeze(2)
    candidate = valid.unsqueeze(2) & valid.unsqueeze(1) & ~own
    return (both_events | (background & twin)) & candidate, candidate
