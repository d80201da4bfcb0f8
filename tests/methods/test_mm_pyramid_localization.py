"""MM-Pyramid for localization: size, and its forward pass and losses restated in NumPy, float64, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pyramid_restatement import Pyramid
from restatement import assert_two_heads, small

from pipeline.methods import METHODS, create


class Reference(Pyramid):
    """One clip: (T, S, D_v), (T, D_a) -> event logits (T,), class logits (K,), attention (T, S)."""

    def __call__(self, visual, audio):
        attended, weights = (np.stack(part) for part in zip(*map(self.pooled, visual, audio), strict=True))
        streams = self.encode(self.linear("audio", audio), self.linear("visual", attended), name="encoder.")
        fused = np.concatenate(streams, axis=1)
        return self.linear("event_head", fused)[:, 0], self.linear("class_head", fused.max(axis=0)), weights

    def pooled(self, positions, audio):
        return self.audio_guided("attention", positions, audio)


@pytest.mark.parametrize("supervision", ["full", "weak"])
def test_forward_and_losses_equal_the_numpy_restatement(supervision):
    widths = {"attention_width": 5, "width": 6, "heads": 2, "levels": 3, "feedforward": 8}
    method = small("mm_pyramid_avel", **widths, dropout=0.0, attention_dropout=0.0, supervision=supervision)
    assert_two_heads(method, Reference(method))


@pytest.mark.parametrize(("supervision", "parameters"), [("full", 39_623_760), ("weak", 39_624_785)])
def test_parameters(supervision, parameters):
    """38,886,402 of them are the encoder's, as in the released parsing network."""
    with torch.device("meta"):
        method = create("mm_pyramid_avel", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
    assert sum(parameter.numel() for parameter in method.encoder.parameters()) == 38_886_402


def test_rates_and_recipe_are_those_of_parsing():
    parsing, ours = (METHODS.get(name).Config().model_dump() for name in ("mm_pyramid", "mm_pyramid_avel"))
    for name in ("recipe", "width", "heads", "levels", "feedforward", "dropout", "attention_dropout"):
        assert ours[name] == parsing[name]
