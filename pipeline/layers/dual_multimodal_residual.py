"""Fusion of two streams by the dual multimodal residual network: Tian et al. (AVEL), ECCV 2018."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DualMultimodalResidual(nn.Module):
    """One DMRN block, as released.

    (tanh(h_a + m) + tanh(h_v + m)) / 2 with m = (U_v(h_v) + U_a(h_a)) / 2 and U = Lin tanh Lin.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.audio, self.visual = (nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)) for _ in range(2))

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """Fuse both modalities: (..., D), (..., D) -> (..., D)."""
        merged = (self.visual(visual) + self.audio(audio)) / 2
        return (torch.tanh(audio + merged) + torch.tanh(visual + merged)) / 2
