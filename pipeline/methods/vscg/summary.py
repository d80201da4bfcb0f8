"""VSCG's event summaries: what a clip shows in two states, from which the recurrent networks start."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d


class EventSummary(nn.Module):
    """Two states of a clip, by two convolutions along time with pooling; the same weights for both modalities.

    Conv(width -> half, 5) ReLU MaxPool(2), twice. Of a clip of ten segments two steps are left, the start states of the forward and of the
    backward direction. Released code knows no other length. Here the clip's n // 4 whole steps are halved, and each half's maximum is a
    state (n = 10: the two steps); a clip shorter than eight segments takes its first two steps, and a step without segments is 0.

    Args:
        width: D of a segment; a state has D / 2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(width, width // 2, 5, padding=2)
        self.second = nn.Conv1d(width // 2, width // 2, 5, padding=2)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T) bool -> (B, 2, D / 2)."""
        steps, valid = features.transpose(1, 2), mask.unsqueeze(1)
        for convolution in (self.first, self.second):
            # Zeros behind a clip's end are the convolution's own padding, and never the maximum of values of at least 0.
            steps = torch.relu(convolution(steps.masked_fill(~valid, 0.0))).masked_fill(~valid, 0.0)
            steps = max_pool1d(steps, 2, ceil_mode=True)
            valid = max_pool1d(valid.to(steps.dtype), 2, ceil_mode=True) > 0
        place = torch.arange(steps.shape[-1], device=mask.device)
        half = (mask.sum(dim=1) // 4 // 2).clamp(min=1).unsqueeze(1)
        parts = [(place >= number * half) & (place < (number + 1) * half) for number in (0, 1)]
        return torch.stack([steps.masked_fill(~part.unsqueeze(1), 0.0).amax(dim=-1) for part in parts], dim=1)
