"""The encoder of hybrid attention layers against its formulas in NumPy, float64, in both orders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import scatter
from test_han import Reference

from pipeline.layers.hybrid_attention import HybridEncoder

LENGTHS = (4, 2)


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_two_layers_of_two_heads_equal_the_numpy_restatement(order):
    torch.manual_seed(0)
    encoder = scatter(HybridEncoder(6, layers=2, heads=2, feedforward=8, dropout=0.0, order=order))
    audio, visual = torch.randn(2, 2, 4, 6, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
    found = encoder(audio, visual, mask)
    for clip, length in enumerate(LENGTHS):
        streams = (stream[clip, :length].numpy() for stream in (audio, visual))
        expected = Reference(encoder).layers("", 2, *streams, heads=2, sequential=order == "sequential")
        for stream, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(stream[clip, :length].detach(), value, atol=1e-10)
