"""Losses between CoLeaF's Anchor and Reference branches: Sardari et al., ECCV 2024, Eqs. 8-13, as printed and as released.

Shape letters: B batch, T segments, C classes, D width. Every loss is for one modality. Only clips marked by ``counted``, (B,) bool, and
segments marked by ``mask``, (B, T) bool, carry weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.layers.parsing_losses import mixture_terms
from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32

LEAST = 1e-8


def asymmetric_loss(probability: Tensor, target: Tensor, counted: Tensor, margin: float = 0.05) -> Tensor:
    """Asymmetric loss, which the released code uses instead of the paper's cross-entropy.

    -sum over clips and classes of (1 - p_t) (y log p + (1 - y) log p_n), with p_n = min(1 - p + margin, 1) and p_t = p y + p_n (1 - y)
    without a gradient. A sum, not a mean.

    Args:
        probability, target: (B, C), p and y.
        counted: (B,), bool.
        margin: added to 1 - p.
    """
    p = at_least_float32(probability)
    absent = (1 - p + margin).clamp(max=1)
    weight = 1 - (p * target + absent * (1 - target)).detach()
    terms = -weight * (target * p.clamp(min=LEAST).log() + (1 - target) * absent.clamp(min=LEAST).log())
    return torch.where(counted.unsqueeze(1), terms, 0.0).sum()


def unaligned_shares(audio: Tensor, visual: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Eqs. 9-11: share of the audio classes that are not visual, and the reverse; 0 without classes.

    Args:
        audio, visual: (B, C), probabilities of the Reference branches.
        threshold: a modality has a class from this probability on.

    Returns:
        (B,), (B,).
    """
    on_audio, on_visual = audio >= threshold, visual >= threshold
    both = (on_audio & on_visual).sum(dim=1)
    alone = ((on_audio & ~on_visual).sum(dim=1), (on_visual & ~on_audio).sum(dim=1))
    first, second = (number / (number + both).clamp(min=1) for number in alone)
    return first.to(audio.dtype), second.to(visual.dtype)


def event_aware_contrast(
    anchor: Tensor, reference: Tensor, mask: Tensor, share: Tensor, counted: Tensor, temperature: float
) -> Tensor:  # fmt: skip
    """Eq. 8: pull each Anchor token towards the Reference token of its segment and away from the others.

    -share / T sum_t log(exp(f_t x_t / tau) / sum_{n != t} exp(f_t x_n / tau)), mean over clips; f are Anchor tokens, x Reference tokens.
    Tokens are scaled to unit length, as in the released code, because otherwise the loss has no lower bound. A clip of one segment has no
    loss, because there are no other segments.

    Args:
        anchor, reference: (B, T, D).
        mask: (B, T), bool.
        share: (B,), in [0, 1].
        counted: (B,), bool.
        temperature: tau.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        f, x = (torch.nn.functional.normalize(at_least_float32(tokens), dim=-1) for tokens in (anchor, reference))
        similarity = f @ x.transpose(1, 2) / temperature
        own = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        # Finite, not -inf: without candidates the gradient must be 0, not NaN.
        others = similarity.masked_fill(own | ~mask.unsqueeze(1), torch.finfo(f.dtype).min).logsumexp(dim=-1)
        told_apart = mask & (mask.sum(dim=1, keepdim=True) > 1)
        terms = torch.where(told_apart, others - similarity.diagonal(dim1=1, dim2=2), 0.0)
        return masked_mean(share * terms.sum(dim=1) / mask.sum(dim=1).clamp(min=1), counted)


def reversed_contrast(anchor: Tensor, reference: Tensor, mask: Tensor, share: Tensor, temperature: float) -> Tensor:
    """Eq. 8 as released: Reference segments are the queries, Anchor segments the candidates.

    The logarithm of the smoothed mixture, with the own segment among the candidates
    (:func:`pipeline.layers.parsing_losses.mixture_terms`), times the share; mean over all valid segments.

    Args: as in :func:`event_aware_contrast`.
    """
    return masked_mean(share.unsqueeze(1) * mixture_terms(reference, anchor, mask, temperature), mask)


def co_occurrence_loss(reference: Tensor, anchor: Tensor, counted: Tensor) -> Tensor:
    """Eq. 13: mean over clips and class pairs of (R_i R_j - P_i P_j)^2.

    (B, C), (B, C), (B,) bool -> scalar.
    """
    return masked_mean(_pair_gaps(reference, anchor).mean(dim=(1, 2)), counted)


def trusted_co_occurrence_loss(reference: Tensor, anchor: Tensor, trust: Tensor, counted: Tensor) -> Tensor:
    """Eq. 13 as released, with a target that mixes Reference and Anchor.

    (B / C) sum over clips and class pairs of (t_i t_j - P_i P_j)^2, with t = m R + (1 - m) P without a gradient. The factor is B / C, where
    1 / (B C) may have been meant; B is the number of counted clips.

    Args:
        reference, anchor: (B, C), R and P.
        trust: (B, C), m: the Reference's share in the target; the rest is the Anchor itself.
        counted: (B,), bool.
    """
    taught = trust * reference + (1 - trust) * anchor.detach()
    gaps = torch.where(counted, _pair_gaps(taught, anchor).sum(dim=(1, 2)), 0.0)
    return gaps.sum() * counted.sum() / anchor.shape[1]


def confidence(probability: Tensor, target: Tensor, high: float, low: float) -> Tensor:
    """Reference probabilities that the released code trusts: ([R >= high] + [R <= low]) y.

    (B, C), (B, C) -> (B, C).
    """
    return ((probability >= high) | (probability <= low)).to(target.dtype) * target


def _pair_gaps(first: Tensor, second: Tensor) -> Tensor:
    """Squared differences (a_i a_j - b_i b_j)^2: (B, C), (B, C) -> (B, C, C)."""
    products = [at_least_float32(p).unsqueeze(2) * at_least_float32(p).unsqueeze(1) for p in (first, second)]
    return (products[0] - products[1]) ** 2
