"""Which labels of a clip are not heard, or not seen: Cheng et al. (JoMoLD), ECCV 2022, as released; CMPAE and CoLeaF take it over.

B batch, N clips of the training split, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def noise_ratio(parts: Iterable[tuple[Tensor, Tensor, Tensor]], threshold: float) -> Tensor:
    """Share of the clips with a class in which the modality does not show it: #{y = 1, P y' / mean P < threshold} / #{y = 1}.

    Args:
        parts: by batch, the clips' probabilities P in the modality, their targets y' in it, and their labels y; (B, C) each.
        threshold: of P relative to its mean over the clips (the mean of the batches' means, as released).

    Returns:
        (C,), float64, 0 for a class that no clip has.
    """
    probability, target, labels, means = [], [], [], []
    for p, y_of_modality, y in (part for part in parts if len(part[0])):
        probability.append(p)
        target.append(y_of_modality)
        labels.append(y > 0.5)
        means.append(p.mean(dim=0))
    present = torch.cat(labels)
    relative = torch.cat(probability) * torch.cat(target) / torch.stack(means).mean(dim=0)
    return ((relative < threshold) & present).sum(dim=0).double() / present.sum(dim=0).clamp(min=1)


def absent_labels(own_terms: Tensor, other_terms: Tensor, positive: Tensor, ratio: Tensor) -> Tensor:
    """The labels to remove from one modality: of the n clips of the batch whose loss in it is the largest, those that are also among the n
    whose loss in the other modality is the smallest; n = trunc(ratio * clips with the class), class by class.

    Args:
        own_terms, other_terms: (B, C), the cross-entropy of each label in the modality and in the other one.
        positive: (B, C), bool, the clips with the class.
        ratio: (C,), float64, in [0, 1]: in float32 the product of 8/164 and 41 clips falls short of 2, and a label would stay.

    Returns:
        (B, C), bool.
    """
    removable = torch.trunc(ratio * positive.sum(dim=0))
    return positive & (_rank(-own_terms, positive) < removable) & (_rank(other_terms, positive) < removable)


def _rank(values: Tensor, among: Tensor) -> Tensor:
    """Place of each value in its column, smallest first, of those that ``among`` holds; the others come behind."""
    return values.masked_fill(~among, float("inf")).argsort(dim=0, stable=True).argsort(dim=0)
