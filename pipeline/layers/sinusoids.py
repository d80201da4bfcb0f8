"""Positional codes without weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(steps: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of the step's number at falling rates, in turn: (T, D), float32, for an even D."""
    step = torch.arange(steps, device=device, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([(step * rate).sin(), (step * rate).cos()], dim=-1).flatten(1)
