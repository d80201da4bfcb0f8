"""Dropout of whole feature maps, quickly on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 2**16  # of one draw
RAREST = 0.01  # probability that is rounded: by less than a thousandth of itself


class MapDropout(nn.Dropout):
    """``nn.Dropout``, with random numbers of 16 bits on a CPU.

    There torch draws 64 bits for every element, one after the other and on one thread, whatever the number of threads: for the maps of
    AVE (64 clips: 16 million elements) a tenth of CACE-Net's step. Here four elements share a draw. The probability is rounded to a
    multiple of 2^-16, and what is kept is divided by the share that is kept after rounding, so that the expectation stays exact. On
    other devices, and where rounding would show, it is torch's own.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Any shape, float -> the same."""
        if not self.training or features.device.type != "cpu" or not RAREST <= self.p <= 1 - RAREST:
            return super().forward(features)
        return features * keep_mask(features, round(self.p * LEVELS))


def keep_mask(features: Tensor, dropped: int) -> Tensor:
    """Like ``features``: 0 with probability dropped / LEVELS, independently, else 1 / (1 - that)."""
    words = torch.empty(-(-features.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: features.numel()].view(features.shape)
    mask = torch.empty_like(features)
    torch.ge(draws, dropped - LEVELS // 2, out=mask)  # int16 begins at -LEVELS / 2
    return mask.div_(1 - dropped / LEVELS)
