"""CUDA graphs on a card: captured or not, the same weights. ``python -m benchmarks.captured`` compares every method."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks.captured import largest_difference, train
from pipeline.devices import use_deterministic_kernels
from tests.wording import one_says

if not torch.cuda.is_available():
    pytest.skip("torch finds no usable GPU here", allow_module_level=True)

OPTIONS = argparse.Namespace(batch=8, steps=6, epochs=7)


@pytest.mark.parametrize("precision", ["32-true", "tf32", "bf16-mixed"])
@pytest.mark.parametrize("name", ["cace_net", "han", "cmpae", "coleaf", "unav", "cace_net_dense"])
def test_captured_or_not_a_card_trains_the_same_weights_without_a_warning(name, precision):
    device = torch.device("cuda")
    use_deterministic_kernels(device)
    plain, captured = (train(name, precision, graphs, OPTIONS, device) for graphs in ("off", "auto"))
    assert captured.graphs
    assert not captured.lines
    assert not [*plain.warned, *captured.warned]
    assert largest_difference(plain, captured) < 1e-5


def test_batches_with_padding_in_a_bilstm_run_uncaptured_among_captured_ones_and_one_line_says_so():
    """The failed capture must leave the random numbers as they were."""
    device = torch.device("cuda")
    use_deterministic_kernels(device)
    plain, captured = (train("cace_net", "32-true", graphs, OPTIONS, device, padded=True) for graphs in ("off", "auto"))
    assert one_says(captured.lines, "without CUDA graphs", "lengths of clips")
    assert largest_difference(plain, captured) < 1e-5
