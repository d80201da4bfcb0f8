"""The plain BiLSTM: size, and its forward pass and losses restated in NumPy, float64, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
from restatement import Restatement, assert_two_heads, small

from pipeline.methods import create


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> event logits (T,), class logits (K,), no attention."""

    def __call__(self, visual, audio):
        hidden = self.lstm("lstm", np.concatenate([visual.mean(axis=1), audio], axis=1))
        return self.linear("event_head", hidden)[:, 0], self.linear("class_head", hidden.max(axis=0)), None


@pytest.mark.parametrize("supervision", ["full", "weak"])
def test_forward_and_losses_equal_the_numpy_restatement(supervision):
    method = small("bilstm", width=4, dropout=0.0, supervision=supervision)
    assert_two_heads(method, Reference(method))


@pytest.mark.parametrize(("supervision", "parameters"), [("full", 795_933), ("weak", 796_190)])
def test_parameters(supervision, parameters):
    method = create("bilstm", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
