"""MM-Pyramid's encoder against its formulas in NumPy, float64, one clip and one segment at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pyramid_restatement import Pyramid
from restatement import scatter

from pipeline.layers.multimodal_pyramid import PyramidEncoder, PyramidLevel

WIDTH, HEADS, LEVELS, LENGTHS = 6, 2, 3, (7, 4, 1)


@pytest.mark.parametrize("cross", [True, False])
def test_the_encoder_equals_the_numpy_restatement(cross):
    torch.manual_seed(0)
    encoder = scatter(PyramidEncoder(WIDTH, HEADS, LEVELS, feedforward=8, dropout=0.0, attention_dropout=0.0), limit=0.5)
    audio, visual = torch.randn(2, 3, 7, WIDTH, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    found = encoder(audio, visual, mask, cross)
    for clip, length in enumerate(LENGTHS):
        expected = Pyramid(encoder).encode(audio[clip, :length].numpy(), visual[clip, :length].numpy(), cross)
        for stream, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(stream[clip, :length].detach(), value, atol=1e-10)


def test_a_level_reaches_as_far_as_its_windows_and_its_convolution():
    """One segment by attention and one more by the convolution, at distance 1."""
    torch.manual_seed(0)
    level = scatter(PyramidLevel(WIDTH, HEADS, 8, 0.0, 0.0, distance=1), limit=0.5)
    audio, visual = torch.randn(2, 1, 7, WIDTH, dtype=torch.float64)
    changed = audio.clone()
    changed[:, 6] += 1
    mask = torch.ones(1, 7, dtype=torch.bool)
    before, after = level(audio, visual, mask, True), level(changed, visual, mask, True)
    moved = [(a - b).abs().amax(dim=(0, 2)) > 1e-12 for a, b in zip(before, after, strict=True)]
    assert moved[0].tolist() == moved[1].tolist() == [False] * 4 + [True] * 3


def test_parameters_as_the_released_encoder_uses():
    """A level 6,833,152 of attention and gates and 2 x 1,049,600 of convolution."""
    with torch.device("meta"):
        level = PyramidLevel(512, 8, 512, 0.2, 0.1, distance=1)
    assert sum(weight.numel() for weight in level.parameters()) == 6_833_152 + 2 * 1_049_600
