"""MA's track exchange: find clip labels that one modality does not contain by exchanging the other track.

Wu and Yang, "Exploring Heterogeneous Clues for Weakly-Supervised Audio-Visual Video Parsing" (MA), CVPR 2021, as released.
Shape letters: N clips of the training split, B clips of a part of it, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LIMIT = 0.5  # threshold on a probability, relative to the error rate of its class
PART = 256  # clips compared with all others at once


def unrelated(labels: Tensor, mask: Tensor) -> Tensor:
    """Draw for each clip a random partner without a common class and with at least one common valid segment.

    Args:
        labels: (N, C), bool.
        mask: (N, T), bool.

    Returns:
        (N,), int64; -1 for a clip without a possible partner or of padding only.
    """
    related, present, partners = labels.float(), mask.float(), []
    for rows in torch.arange(len(labels), device=labels.device).split(PART):
        possible = ((related[rows] @ related.T == 0) & (present[rows] @ present.T > 0)).float()
        possible[torch.arange(len(rows), device=rows.device), rows] = 0  # a clip without classes must not be its own partner
        alone = possible.sum(dim=1) == 0
        drawn = torch.multinomial(possible + alone.unsqueeze(1), 1).squeeze(1)
        partners.append(drawn.masked_fill(alone, -1))
    return torch.cat(partners)


def mistaken(probability: Tensor, labels: Tensor) -> Tensor:
    """Error rate of [P > 0.5] per class, divided by the largest of these rates.

    Args:
        probability: (N, C).
        labels: (N, C), bool.

    Returns:
        (C,), in [0, 1]; all 0 without errors.
    """
    shares = ((probability > 0.5) != labels).to(probability.dtype).mean(dim=0)
    largest = shares.max()
    return shares / largest if largest > 0 else shares


class Exchanged(NamedTuple):
    """Audio and visual probabilities, (B, C) each, of clips with one track exchanged for a foreign one."""

    audio: Tensor
    visual: Tensor


def not_shown(said: Exchanged, limits: Sequence[Tensor]) -> Tensor:
    """Classes absent from the own track: both probabilities are below half of the class's limit.

    Args:
        said: probabilities of the clips with exchanged tracks.
        limits: audio and visual, (C,) each, from :func:`mistaken`.

    Returns:
        (B, C), bool.
    """
    return (said.audio < LIMIT * limits[0]) & (said.visual < LIMIT * limits[1])
