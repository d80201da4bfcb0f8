"""CPSP: its losses by hand, and network and losses restated in NumPy, float64, clip by clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from propagation_restatement import Propagating, cosines
from restatement import assert_two_heads, small

from pipeline.methods import create
from pipeline.methods.cpsp.activation import video_activation

WIDTHS = {
    "attention_width": 5, "input_width": 6, "input_hidden": 7, "recurrent_width": 4, "dropout": 0.0, "pair_weight": 17.0,
    "threshold": 0.15, "segment_activation_weight": 0.3, "video_activation_weight": 0.4, "video_activation_margin": 1.1,
    "video_activation_negatives": 2,
}  # fmt: skip
BITS = [[0, 1, 1, 1, 0], [1, 1, 0], [0]]


class Reference(Propagating):
    """One clip: (T, S, D_v), (T, D_a) -> event, classes, attention, both modalities."""

    def __init__(self, method, full):
        super().__init__(method, 0.15)
        self.full = full

    def __call__(self, visual, audio):
        v, a, weights = self.body(visual, audio, refined=self.full)
        fused = (v + a) / 2
        return self.linear("event_head", fused)[:, 0], self.linear("class_head", fused.mean(axis=0)), weights, v, a


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def between_clips(said, classes):
    vectors = [unit((v + a) / 2).mean(axis=0) for *_, v, a in said]
    terms = []
    for i, own in enumerate(classes):
        apart = [np.linalg.norm(vectors[i] - other) for other in vectors]
        same = max(apart[j] for j in range(len(said)) if own & classes[j])
        others = sorted(apart[j] for j in range(len(said)) if not own & classes[j])[:2]
        if others:
            terms.append(max(0, 1.1 + same - np.mean(others)))
    return np.mean(terms)


def within_clips(said):
    clips = []
    for (*_, v, a), bits in zip(said, BITS, strict=True):
        rows = unit((v + a) / 2)
        similar = np.exp(rows @ rows.T / 0.6)
        events, background = (np.flatnonzero(np.array(bits) == bit) for bit in (1, 0))
        terms = []
        for i in events:
            positive, negative = sum(similar[i, j] for j in events), np.mean([similar[i, j] for j in background])
            terms.append(-math.log(positive / (positive + negative)))
        if len(events):
            clips.append(np.mean(terms))
    return np.mean(clips)


@pytest.mark.parametrize("form", ["paper", "none"])
def test_supervised_forward_and_losses_equal_the_numpy_restatement(form):
    method = small("cpsp", limit=0.9, **WIDTHS, segment_activation=form)
    network = Reference(method, full=True)

    def extra(said, wanted):
        squares = []
        for (*_, v, a), bits in zip(said, BITS, strict=True):
            shares = np.maximum(cosines(v, a), 0)
            soft = np.array(bits) / max(sum(bits), 1)  # no similarity is asked of a clip without an event
            squares += list((shares / (shares.sum() + 1e-8) - soft) ** 2)
        terms = {"pair": np.mean(squares), "video_activation": between_clips(said, [{1}, {0}, {3}])}
        total = wanted["total"] + 17 * terms["pair"] + 0.4 * terms["video_activation"]
        if form == "paper":
            terms["segment_activation"] = within_clips(said)
            total += 0.3 * terms["segment_activation"]
        return {**terms, "total": total}

    assert_two_heads(method, network, extra)
    assert min(network.cut, network.kept) > 0


def test_weak_forward_and_losses_equal_the_numpy_restatement():
    method = small("cpsp", limit=0.9, **WIDTHS, supervision="weak")

    def extra(said, wanted):
        activation = between_clips(said, [{1}, {0, 2}, {3}])
        return {"video_activation": activation, "total": wanted["total"] + 0.4 * activation}

    assert_two_heads(method, Reference(method, full=False), extra)


def test_clips_by_hand():
    """Two clips of one class and one of another: one negative each although two are asked for; the last has no known clip beside it."""
    angle = torch.tensor([0.0, math.pi / 3, math.pi / 2, 1.0])
    fused = torch.stack([angle.cos(), angle.sin()], dim=1)[:, None] * torch.tensor([2.0, 3.0, 4.0, 5.0])[:, None, None]
    labels = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    known = torch.tensor([True, True, True, False])
    chord = [2 * math.sin(a / 2) for a in (math.pi / 3, math.pi / 2, math.pi / 6)]
    wanted = [max(0, 0.5 + chord[0] - chord[1]), 0.5 + chord[0] - chord[2], max(0, 0.5 - (chord[1] + chord[2]) / 2)]
    found = video_activation(fused.double(), torch.ones(4, 1, dtype=torch.bool), labels.double(), known, 0.5, 2)
    assert found.item() == pytest.approx(np.mean(wanted), abs=1e-6)
    alone = video_activation(fused[:1], torch.ones(1, 1, dtype=torch.bool), labels[:1], known[:1], 0.5, 2)
    assert alone.item() == 0


def test_equal_clips_have_finite_gradients():
    """The slope of a distance is infinite at 0."""
    fused = torch.ones(3, 2, 4, requires_grad=True)
    video_activation(fused, torch.ones(3, 2, dtype=torch.bool), torch.eye(3), torch.ones(3, dtype=torch.bool), 0.2, 3).backward()
    assert fused.grad is not None
    assert fused.grad.isfinite().all()


@pytest.mark.parametrize(("supervision", "parameters"), [("full", 1_537_870), ("weak", 1_243_343)])
def test_parameters_and_recipe(supervision, parameters):
    method = create("cpsp", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
    recipe, config = method.config.recipe, method.config
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs, recipe.clip_norm) == (1e-3, 64, 45, 0.1)
    weak = supervision == "weak"
    assert recipe.milestones == ((5, 20, 40) if weak else (10, 20, 30))
    assert (config.video_activation_margin, config.video_activation_negatives) == ((0.6, 4) if weak else (0.2, 3))
