"""Parameters on which a loss does not depend, separated from rounding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.batch import Batch

# Constant along a softmax, and so without any effect on it: the bias of attention's keys shifts all scores of a query alike, the biases of
# attentive pooling all segments of a class or both of its modalities. MGN's mixer shifts a token's channels alike,
# before a layer norm.
FLAT = ("key.bias", "over_time.bias", "over_modalities.bias", "mix_out.bias")


def doubled(batch: Batch) -> Batch:
    return Batch(batch.visual.double(), batch.audio.double(), batch.mask, {name: stream.double() for name, stream in batch.others.items()})


def rounding(reached: Mapping[str, Tensor]) -> set[str]:
    """Names of the gradients that are rounding beside the largest."""
    sizes = {name: gradient.abs().max().item() for name, gradient in reached.items()}
    return {name for name, size in sizes.items() if size <= 1e-12 * max(sizes.values())}


def assert_all_but_flat(method: nn.Module, reached: Mapping[str, Tensor]) -> None:
    """Every parameter of a method in float64 has a gradient, and those named above, they alone, one that is rounding.

    Measured, as shares of the largest gradient: rounding at most 2e-16, on some processors exactly zero; true ones at least 5e-9.
    """
    parameters = dict(method.named_parameters())
    assert reached.keys() == parameters.keys()
    assert all(gradient.dtype == torch.float64 and gradient.isfinite().all() for gradient in reached.values())
    assert rounding(reached) == {name for name in parameters if name.endswith(FLAT)}
