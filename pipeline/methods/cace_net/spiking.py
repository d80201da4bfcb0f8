"""A layer of leaky integrate-and-fire (LIF) neurons over the segments of a clip: CACE-Net's third temporal encoder (supplement, Table S1).

The paper says: one hidden layer, LIF neurons (Dayan and Abbott, "Theoretical Neuroscience", 2005, Sec. 5.4), 15 time steps, run forward in
time like an LSTM of one direction. Ours, for want of more: each segment's features drive the neurons, as a constant current, for that many
steps; the membrane is carried on into the next segment, which is what makes it a *temporal* encoder; the output is the rate of spikes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.layers.precision import at_least_float32


class Spike(torch.autograd.Function):
    """1 where the distance to the threshold is not negative, else 0; backwards the derivative of atan(pi x) / pi + 1/2, which is 1 at the
    threshold and never 0 (the surrogate of Fang et al., "Incorporating Learnable Membrane Time Constant ...", ICCV 2021, alpha = 2)."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return gradients[0] / (1 + (math.pi * distance).square())


class SpikingSegments(nn.Module):
    """u <- decay u + W x + b; a spike and u <- 0 where u >= 1. No gradient flows through the reset.

    Args:
        input_width: D of a segment.
        output_width: number of neurons.
        steps: simulated for each segment.
        time_constant: of the leak, in steps: decay = exp(-1 / time_constant).
    """

    def __init__(self, input_width: int, output_width: int, steps: int, time_constant: float) -> None:
        super().__init__()
        self.current = nn.Linear(input_width, output_width)
        self.steps, self.decay = steps, math.exp(-1 / time_constant)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, T, input_width), (B, T) bool with padding at the end only -> (B, T, output_width), spikes per step, in [0, 1]."""
        currents = at_least_float32(self.current(features))
        membrane = torch.zeros_like(currents[:, 0])
        rates = []
        for current in currents.unbind(dim=1):
            spikes = []
            for _ in range(self.steps):
                membrane = self.decay * membrane + current
                spikes.append(Spike.apply(membrane - 1))
                membrane = membrane * (1 - spikes[-1].detach())
            rates.append(torch.stack(spikes).mean(dim=0))
        return torch.stack(rates, dim=1).masked_fill(~mask.unsqueeze(-1), 0.0)
