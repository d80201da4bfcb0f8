"""The encoder of hybrid attention layers against its formulas in NumPy, float64, in both orders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import Restatement, relu, scatter

from pipeline.layers.hybrid_attention import HybridEncoder

LENGTHS = (4, 2)


class Reference(Restatement):
    """One clip's two streams through both layers."""

    def __call__(self, audio, visual, sequential):
        for layer in range(2):
            updated = self.layer(f"layers.{layer}", audio, visual)
            visual = self.layer(f"layers.{layer}", visual, updated if sequential else audio)
            audio = updated
        return audio, visual

    def layer(self, name, q, o):
        own, cross = (self.multi_head(f"{name}.{part}", q, keys, heads=2) for part, keys in (("own", q), ("cross", o)))
        h = self.norm(f"{name}.attention_norm", q + own + cross)
        hidden = relu(self.linear(f"{name}.feedforward.0", h))
        return self.norm(f"{name}.feedforward_norm", h + self.linear(f"{name}.feedforward.3", hidden))


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_two_layers_of_two_heads_equal_the_numpy_restatement(order):
    torch.manual_seed(0)
    encoder = scatter(HybridEncoder(6, layers=2, heads=2, feedforward=8, dropout=0.0, order=order))
    audio, visual = torch.randn(2, 2, 4, 6, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
    found = encoder(audio, visual, mask)
    reference = Reference(encoder)
    for clip, length in enumerate(LENGTHS):
        expected = reference(audio[clip, :length].numpy(), visual[clip, :length].numpy(), order == "sequential")
        for stream, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(stream[clip, :length].detach(), value, atol=1e-10)
