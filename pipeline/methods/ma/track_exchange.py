"""Which labels of a clip one modality does not show, found by exchanging its other track: Wu and Yang, "Exploring Heterogeneous Clues for
Weakly-Supervised Audio-Visual Video Parsing" (MA), CVPR 2021, as released.

N clips of the training split, B clips of a part of it, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LIMIT = 0.5  # of a probability, relative to how often its class is mistaken
PART = 256  # clips compared with all others at once


def unrelated(labels: Tensor, mask: Tensor) -> Tensor:
    """For each clip another one, drawn at random, with which it shares no class and at least one segment.

    Args:
        labels: (N, C), bool.
        mask: (N, T), bool.

    Returns:
        (N,), int64; -1 for a clip without such another, or of padding alone.
    """
    related, present, partners = labels.float(), mask.float(), []
    for rows in torch.arange(len(labels), device=labels.device).split(PART):
        possible = ((related[rows] @ related.T == 0) & (present[rows] @ present.T > 0)).float()
        possible[torch.arange(len(rows), device=rows.device), rows] = 0  # a clip without a class shares none with itself
        alone = possible.sum(dim=1) == 0
        drawn = torch.multinomial(possible + alone.unsqueeze(1), 1).squeeze(1)
        partners.append(drawn.masked_fill(alone, -1))
    return torch.cat(partners)


def mistaken(probability: Tensor, labels: Tensor) -> Tensor:
    """Share of the clips in which [P > 0.5] is not the label, class by class, over the largest of these shares.

    Args:
        probability: (N, C); labels: (N, C), bool.

    Returns:
        (C,), in [0, 1]; 0 everywhere where nothing is mistaken.
    """
    shares = ((probability > 0.5) != labels).to(probability.dtype).mean(dim=0)
    largest = shares.max()
    return shares / largest if largest > 0 else shares


class Exchanged(NamedTuple):
    """Probabilities (B, C), audio and visual, of clips with their own track of one modality and a foreign one of the other."""

    audio: Tensor
    visual: Tensor


def not_shown(said: Exchanged, limits: Sequence[Tensor]) -> Tensor:
    """Where both probabilities are below half of the class's limit: the own track shows no such thing, nor does it lend it to the other.

    Args:
        limits: (C,) each, audio and visual, as :func:`mistaken` gives them.

    Returns:
        (B, C), bool.
    """
    return (said.audio < LIMIT * limits[0]) & (said.visual < LIMIT * limits[1])
