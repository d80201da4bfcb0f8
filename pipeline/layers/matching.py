"""Windows of a clip for cross-modality localization, as queries in one modality and as answers in the other.

B clips, T segments, L = T lengths (entry l - 1 is length l). A window is [start, start + l).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def windows(segments: int, device: torch.device | None = None) -> Tensor:
    """Segments of each window, (L, T start, T) bool; none where it would reach beyond the last segment."""
    place = torch.arange(segments, device=device)
    length, start = place[:, None, None] + 1, place[:, None]
    return (place >= start) & (place < start + length) & (start + length <= segments)


def fits(mask: Tensor) -> Tensor:
    """Whether each window lies within its clip.

    (B, T) bool with padding at the end only -> (B, L, T start) bool.
    """
    place = torch.arange(mask.shape[1], device=mask.device)
    return place[:, None] + 1 + place <= mask.sum(dim=1)[:, None, None]


def sums_over_windows(values: Tensor) -> Tensor:
    """Sum the values of a query's segments over every window of the query's length.

    (B, L, T start of the query, T) -> (B, L, T start of the query, T start of the answer); 0 where the answer does not fit.
    """
    with torch.autocast(values.device.type, enabled=False):
        return torch.einsum("blst,lwt->blsw", values, windows(values.shape[-1], values.device).to(values.dtype))


def sums_along(values: Tensor) -> Tensor:
    """Sum the values of pairs of segments along diagonals.

    Entry [l - 1, s, w] is sum_{k < l} values[s + k, w + k].
    (B, T of the query, T of the answer) -> (B, L, T start of the query, T start of the answer); pairs beyond T count as 0.
    """
    segments = values.shape[1]
    shifted = (pad(values, (0, k, 0, k))[:, k:, k:] for k in range(segments))
    return torch.stack(list(shifted), dim=1).cumsum(dim=1)
