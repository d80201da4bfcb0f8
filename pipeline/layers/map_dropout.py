"""Fast dropout of whole feature maps on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 2**16  # of one draw
RAREST = 0.01  # least probability that is rounded: the rounding error stays under a thousandth of it


class MapDropout(nn.Dropout):
    """``nn.Dropout``, with random numbers of 16 bits on a CPU.

    On a CPU torch draws 64 bits for every element, one after the other, on a single thread: for the maps of AVE (64 clips: 16 million
    elements) a tenth of CACE-Net's step. Here four elements share a draw. The probability is rounded to a multiple of 2^-16, and kept
    elements are divided by the rounded share that is kept, so that the expectation stays exact. On other devices, and where rounding
    would matter, it is torch's own dropout.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Any shape, float -> the same."""
        if not self.training or features.device.type != "cpu" or not RAREST <= self.p <= 1 - RAREST:
            return super().forward(features)
        return features * keep_mask(features, round(self.p * LEVELS))


def keep_mask(features: Tensor, dropped: int) -> Tensor:
    """Draw a mask like ``features``: 0 with probability p = dropped / LEVELS, independently, else 1 / (1 - p)."""
    words = torch.empty(-(-features.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: features.numel()].view(features.shape)
    mask = torch.empty_like(features)
    torch.ge(draws, dropped - LEVELS // 2, out=mask)  # int16 begins at -LEVELS / 2
    return mask.div_(1 - dropped / LEVELS)
