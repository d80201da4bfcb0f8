"""Windows of a clip as questions and as answers: what cross-modality localization asks with a part of one modality, it finds in the other.

B clips, T segments, L = T lengths (entry l - 1 is length l). A window is [start, start + l).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def windows(segments: int, device: torch.device | None = None) -> Tensor:
    """(L, T start, T) bool: which segments a window holds; none where it would reach beyond the last."""
    place = torch.arange(segments, device=device)
    length, start = place[:, None, None] + 1, place[:, None]
    return (place >= start) & (place < start + length) & (start + length <= segments)


def fits(mask: Tensor) -> Tensor:
    """(B, T) bool with padding at the end only -> (B, L, T start) bool: the windows that lie within a clip."""
    place = torch.arange(mask.shape[1], device=mask.device)
    return place[:, None] + 1 + place <= mask.sum(dim=1)[:, None, None]


def sums_over_windows(values: Tensor) -> Tensor:
    """Values of every segment for every question, summed over every window of the question's length.

    (B, L, T start of the question, T) -> (B, L, T start of the question, T start of the answer); 0 where the answer does not fit.
    """
    with torch.autocast(values.device.type, enabled=False):
        return torch.einsum("blst,lwt->blsw", values, windows(values.shape[-1], values.device).to(values.dtype))


def sums_along(values: Tensor) -> Tensor:
    """Values of pairs of segments, summed in step: entry [l - 1, s, w] is sum_{k < l} values[s + k, w + k].

    (B, T of the question, T of the answer) -> (B, L, T start of the question, T start of the answer); what lies beyond T adds nothing.
    """
    segments = values.shape[1]
    shifted = (pad(values, (0, k, 0, k))[:, k:, k:] for k in range(segments))
    return torch.stack(list(shifted), dim=1).cumsum(dim=1)
