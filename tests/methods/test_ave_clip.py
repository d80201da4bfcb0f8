"""AVE-CLIP-style: smoothing by hand, and network and losses restated in NumPy, float64, clip by clip, window by window."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from restatement import Restatement, assert_two_heads, example, sigmoid, small, softmax

from pipeline.methods import create
from pipeline.methods.ave_clip.method import smoothed

WIDTHS = {"attention_width": 5, "width": 8, "heads": 2, "windows": (2, 4), "dropout": 0.0, "smoothing": False}


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> event logits (T,), class logits (K,), attention (T, S)."""

    def block(self, number, x, y):
        name, window, found = f"transformer.blocks.{number}", WIDTHS["windows"][number], []
        for start in range(0, len(x), window):
            a, b = x[start : start + window], y[start : start + window]
            q, k, v = (self.linear(f"{name}.time.{part}", z) for part, z in (("query", a), ("key", b), ("value", b)))
            over_time = softmax(q @ k.T / math.sqrt(8)) @ v
            q, k, v = (self.linear(f"{name}.features.{part}", z) for part, z in (("query", a), ("key", b), ("value", b)))
            over_features = v @ softmax((k.T @ q / math.sqrt(window)).T).T
            found.append(over_time + over_features)
        x = self.norm(f"{name}.attention_norm", x + np.concatenate(found))
        hidden = gelu(self.linear(f"{name}.feedforward.0", x))
        return self.norm(f"{name}.feedforward_norm", x + self.linear(f"{name}.feedforward.3", hidden))

    def __call__(self, visual, audio):
        pooled, weights = zip(*(self.audio_guided("attention", v, a) for v, a in zip(visual, audio, strict=True)), strict=True)
        place = np.array([[f(t / 10000 ** (2 * i / 8)) for i in range(4) for f in (math.sin, math.cos)] for t in range(len(audio))])
        v, a, found = self.linear("visual_input", np.stack(pooled)) + place, self.linear("audio_input", audio) + place, []
        for number in (0, 1):
            own_v, own_a = self.block(number, v, v), self.block(number, a, a)
            found += [self.block(number, own_v, own_a), self.block(number, own_a, own_v)]
        fused = self.linear("transformer.join", np.concatenate(found, axis=1))
        guide = sigmoid(self.linear("event_guide", fused))
        refined = fused + guide * self.multi_head("refining", fused, guide * fused)
        return self.linear("event_head", refined)[:, 0], self.linear("class_head", refined.max(axis=0)), np.stack(weights)


@pytest.mark.parametrize("supervision", ["full", "weak"])
def test_forward_and_losses_equal_the_numpy_restatement(supervision):
    method = small("ave_clip", **WIDTHS, supervision=supervision)
    assert_two_heads(method, Reference(method), atol=1e-6)  # the positional code is float32


def test_a_segment_against_both_neighbours_takes_their_side():
    """Isolated event, hole of one and of two segments; the ends and what has padding behind it stay."""
    before = torch.tensor([[0.9, 0.1, 0.8, 0.2, 0.7, 0.6, 0.1, 0.2, 0.9, 0.8], [0.1, 0.9, 0.2, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]])
    mask = torch.arange(10) < torch.tensor([10, 4])[:, None]
    after = smoothed(before, mask) > 0.5
    assert after[0].tolist() == [True, True, False, True, True, True, False, False, True, True]
    assert after[1, :4].tolist() == [False, False, True, True]
    for segments in (1, 2):
        assert torch.equal(smoothed(before[:, :segments], mask[:, :segments]), before[:, :segments])


def test_smoothing_changes_the_answer_alone():
    """Probabilities of the event, and nothing of the training."""
    rough, smooth = (small("ave_clip", **{**WIDTHS, "smoothing": on}) for on in (False, True))
    batch = example()[0]
    first, second = rough.predict(batch), smooth.predict(batch)
    torch.testing.assert_close(smoothed(first.event, batch.mask), second.event)
    assert not torch.equal(first.event, second.event)
    assert torch.equal(first.classes, second.classes)


def test_parameters_and_windows():
    method = create("ave_clip", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28)
    assert sum(parameter.numel() for parameter in method.parameters()) == 3_970_127
    for windows in ((2, 2), (0, 5)):
        with pytest.raises(ValidationError, match="windows must be different lengths"):
            small("ave_clip", **{**WIDTHS, "windows": windows})
