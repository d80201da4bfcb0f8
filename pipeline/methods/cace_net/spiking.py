"""Leaky integrate-and-fire (LIF) neurons over a clip's segments: CACE-Net's third temporal encoder (supplement, Table S1).

From the paper: one hidden layer, LIF neurons (Dayan and Abbott, "Theoretical Neuroscience", 2005, Sec. 5.4), 15 time steps, run forward in
time like a one-directional LSTM. The rest is our choice: each segment's features drive the neurons as a constant current for that many
steps; the membrane potential carries over into the next segment, which makes it a *temporal* encoder; the output is the spike rate.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.layers.precision import at_least_float32


class Spike(torch.autograd.Function):
    """Spike function: 1 where the distance to the threshold is not negative, else 0.

    The backward pass uses the derivative of atan(pi x) / pi + 1/2, which is 1 at the threshold and never 0 (the surrogate of Fang et al.,
    "Incorporating Learnable Membrane Time Constant ...", ICCV 2021, alpha = 2).
    """

    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return gradients[0] / (1 + (math.pi * distance).square())


class SpikingSegments(nn.Module):
    """A layer of LIF neurons.

    u <- decay u + W x + b; where u >= 1, a spike and u <- 0. No gradient flows through the reset.

    Args:
        input_width: D of a segment.
        output_width: number of neurons.
        steps: simulation steps per segment.
        time_constant: of the leak, in steps: decay = exp(-1 / time_constant).
    """

    def __init__(self, input_width: int, output_width: int, steps: int, time_constant: float) -> None:
        super().__init__()
        self.current = nn.Linear(input_width, output_width)
        self.steps, self.decay = steps, math.exp(-1 / time_constant)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Spike rates per segment.

        Args:
            features: (B, T, input_width).
            mask: (B, T), bool, with padding only at the end; None: no segment is padding.

        Returns:
            (B, T, output_width), spikes per step, in [0, 1].
        """
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
        rate = torch.stack(rates, dim=1)
        return rate if mask is None else rate.masked_fill(~mask.unsqueeze(-1), 0.0)
