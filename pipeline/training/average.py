"""A moving average of a network's weights over its training steps (EMA)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moving average of all parameters, from the first weights on.

    After step k it is d times the average plus 1 - d times the weights; d is ``decay``, with ``warmup`` at most (1 + k) / (10 + k), k
    counted from 0. Buffers are not averaged. Everything is done on the device and in place, so that a step can be recorded.
    """

    def __init__(self, network: nn.Module, decay: float, warmup: bool) -> None:
        self.weights: list[Tensor] = list(network.parameters())
        self.names = [name for name, _ in network.named_parameters()]
        self.decay, self.warmup = decay, warmup
        self.means = [weight.detach().clone() for weight in self.weights]
        self.count = torch.zeros((), dtype=torch.float64, device=self.weights[0].device)

    @torch.no_grad()
    def update(self, taken: Tensor | None = None) -> None:
        """Average in the weights after a step.

        ``taken``: a scalar, False where the step left the weights as they were.
        """
        decay = torch.full_like(self.count, self.decay)
        if self.warmup:
            decay = torch.minimum(decay, (1 + self.count) / (10 + self.count))
        share, one = 1 - decay, torch.ones_like(decay)
        if taken is not None:
            share, one = share * taken, one * taken
        gaps = torch._foreach_sub(tuple(self.weights), tuple(self.means))
        torch._foreach_mul_(gaps, share.to(self.means[0].dtype))
        torch._foreach_add_(self.means, gaps)
        self.count.add_(one)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the network the average for the duration of the block; the memory of its weights stays the same."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for weight, mean in zip(self.weights, self.means, strict=True):
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"means": dict(zip(self.names, self.means, strict=True)), "count": self.count}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, mean in zip(self.names, self.means, strict=True):
            mean.copy_(state["means"][name])
        self.count.copy_(state["count"])
