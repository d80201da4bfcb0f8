"""PSP's propagation: which connections are kept, and that padding has no effect."""

from __future__ import annotations

import pytest
import torch

from pipeline.layers.propagation import PositiveSamplePropagation

pytestmark = pytest.mark.processor


@pytest.mark.parametrize("refined", [True, False])
def test_connections_by_hand(refined):
    """Shares 0.5, 0.3, 0.2; the last equals the threshold and is cut (only what is above is kept); an empty row stays empty."""
    propagation = PositiveSamplePropagation(4, threshold=2 / (10 + 1e-8), dropout=0.0, refined=refined)
    resemblance = torch.tensor([[[5.0, 3.0, 2.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    first = [0.5, 0.3, 0.0] if not refined else [0.625, 0.375, 0.0]
    expected = torch.tensor([[first, [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(propagation._connections(resemblance), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("refined", [True, False])
def test_padding_is_no_sample(refined):
    torch.manual_seed(0)
    propagation = PositiveSamplePropagation(6, threshold=0.2, dropout=0.0, refined=refined)
    visual, audio = torch.randn(1, 5, 6), torch.randn(1, 5, 6)
    mask = torch.tensor([[True, True, True, False, False]])
    padded = propagation(visual, audio, mask)
    alone = propagation(visual[:, :3], audio[:, :3], mask[:, :3])
    for one, other in zip(padded, alone, strict=True):
        torch.testing.assert_close(one[:, :3], other)


def test_parameters_of_both_forms():
    def count(refined):
        return sum(weight.numel() for weight in PositiveSamplePropagation(256, 0.1, 0.1, refined).parameters())

    assert count(refined=True) == 6 * 256**2 + 2 * 256
    assert count(refined=False) == 4 * 256**2 + 2 * 256
