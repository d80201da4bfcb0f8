"""CMPAE: its size, and its forward pass and losses restated in NumPy, float64, one clip at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from restatement import binary, scatter, sigmoid, softmax
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as HanReference

from pipeline.methods import METHODS, Progress, create


def build(**config):
    torch.manual_seed(1)
    method = create(
        "cmpae", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, width=6, feedforward=8,
        dropout=0.0, visual_dropout=0.0, absence_dropout=0.0, **config,
    )  # fmt: skip
    return scatter(method)


def elu(x):
    return np.where(x > 0, x, np.expm1(x))


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def alpha(logit):
    return np.exp(np.clip(logit, -10, 10) / 0.8) + 1


class Reference(HanReference):
    """One clip, from the spec's formulas. ``cross``: with attention across the modalities (0.8 of it) or without."""

    def __call__(self, visual, audio, motion, cross):
        audio = elu(self.linear("front_end.audio", audio))
        visual = elu(self.linear("front_end.visual", visual)).mean(axis=1)
        visual = elu(self.linear("front_end.fusion", np.concatenate([visual, elu(self.linear("front_end.motion", motion))], axis=1)))
        streams = [self.stream(audio, visual, cross), self.stream(visual, audio, cross)]
        modalities = [self.modality(x, streams, name) for x, name in zip(streams, ("audio", "visual"), strict=True)]
        g = self.linear("whole_clip.classifier", sum(leaky(self.linear("whole_clip.shared.0", x)) for x in (audio, visual)))
        return streams, modalities, sigmoid(g).mean(axis=0), CLASSES / alpha(g.mean(axis=0)).sum()

    def stream(self, q, o, cross):
        alone = self.own_layer(q)
        return 0.8 * self.layer(q, o) + 0.2 * alone if cross else alone

    def own_layer(self, q):
        h = self.norm("attention.attention_norm", q + self.multi_head("attention.own", q, q, heads=1))
        hidden = np.maximum(self.linear("attention.feedforward.0", h), 0)
        return self.norm("attention.feedforward_norm", h + self.linear("attention.feedforward.3", hidden))

    def modality(self, x, streams, name):
        """P (T, C), P (C,), u (C,)."""
        context = leaky(self.linear(f"pooling.both_for_{name}.0", streams[0] + streams[1]))
        logits = [self.linear("pooling.presence", x), self.linear("pooling.absence", x + context)]
        maps = self.linear("pooling.over_time", x).reshape(len(x), CLASSES, 2)
        pooled = [(softmax(maps[..., k].T).T * logits[k]).sum(axis=0) for k in range(2)]
        there, not_there = alpha(pooled[0]), alpha(pooled[1])
        return alpha(logits[0]) / (alpha(logits[0]) + alpha(logits[1])), there / (there + not_there), 2 / (there + not_there)


def restated(method, batch, cross):
    """The output of :class:`Reference` for each clip."""
    reference = Reference(method)
    for clip, length in enumerate(LENGTHS):
        yield reference(*(stream[clip, :length].numpy() for stream in (batch.visual, batch.audio, batch.others["motion"])), cross)


@pytest.mark.parametrize("cross", [True, False])
def test_a_pass_equals_the_numpy_restatement(cross):
    batch, _ = example()
    method = build()
    with torch.no_grad():
        parsed = method.parse(method.inputs(batch), cross)
    assert parsed.before[0].shape == parsed.after[1].shape == (3, 5, 6)
    for clip, (streams, modalities, p, u) in enumerate(restated(method, batch, cross)):
        length = LENGTHS[clip]
        for number, belief in enumerate((parsed.audio, parsed.visual)):
            np.testing.assert_allclose(parsed.after[number][clip, :length], streams[number], atol=1e-10)
            np.testing.assert_allclose(belief.segments[clip, :length], modalities[number][0], atol=1e-10)
            np.testing.assert_allclose(belief.clip[clip], modalities[number][1], atol=1e-10)
            np.testing.assert_allclose(belief.uncertainty[clip], modalities[number][2], atol=1e-10)
        np.testing.assert_allclose(parsed.clip[clip], p, atol=1e-10)
        assert parsed.clip_uncertainty[clip].item() == pytest.approx(u, abs=1e-10)


def test_inference_fuses_both_passes():
    batch, _ = example()
    method = build()
    with torch.no_grad():
        scores = method.predict(batch)
    passes = zip(restated(method, batch, True), restated(method, batch, False), strict=True)
    for clip, ((_, across, *_), (_, alone, *_)) in enumerate(passes):
        for number, (segments, whole) in enumerate(((scores.audio, scores.clip_audio), (scores.visual, scores.clip_visual))):
            fused = [0.7 * one + 0.3 * other for one, other in zip(across[number], alone[number], strict=True)]
            np.testing.assert_allclose(segments[clip, : LENGTHS[clip]], fused[0], atol=1e-10)
            np.testing.assert_allclose(whole[clip], fused[1], atol=1e-10)
    assert scores.thresholds[0, :, :, 0].tolist() == [[0.25, 0.45], [0.25, 0.45]]


def contrast(streams):
    """The two streams of a clip -> the contrast of each segment."""
    audio, visual = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in streams)
    q = softmax(audio @ visual.T / 0.2)
    others = max(len(q) - 1, 1)
    return [-math.log(0.9 * q[t, t] + 0.1 / others * (q[t].sum() - q[t, t])) for t in range(len(q))]


@pytest.mark.parametrize(("epoch", "noise", "removed"), [(0, 1.0, False), (1, 0.0, False), (1, 1.0, True)])
@pytest.mark.parametrize("number", [0, 1])
def test_losses_equal_the_restatement(epoch, noise, removed, number):
    """With ratio 1 all labels are removed from the visual targets from the second epoch on; the clip's labels stay."""
    batch, targets = example()
    method = build()
    method.noise_visual.fill_(noise)
    expected = {name: [] for name in ("audio", "visual", "clip", "contrast", "mutual")}
    for clip, (streams, ((_, p_audio, u_audio), (_, p_visual, u_visual)), p, u) in enumerate(restated(method, batch, True)):
        expected["contrast"] += contrast(streams)
        q = max(u, 0.9)
        for c in range(CLASSES):
            y = targets.labels[clip, c].item()
            expected["audio"].append(binary(p_audio[c], y))
            expected["visual"].append(binary(p_visual[c], 0.0 if removed and y else 0.9 * y + 0.05))
            expected["clip"].append(binary(p[c], y))
            p_max, u_max = (p_audio[c], u_audio[c]) if p_audio[c] > p_visual[c] else (p_visual[c], u_visual[c])
            gap = (1 - u_max) * (p[c] - p_max) ** 2 * y
            gap += (1 - (u_audio[c] + u_visual[c]) / 2) * (p[c] - (p_audio[c] + p_visual[c]) / 2) ** 2 * (1 - y)
            expected["mutual"].append((q if number == 1 else 1 - q) * gap)
    losses = method.losses(batch, targets, Progress(epoch, 9, number))
    for name, values in expected.items():
        assert losses[name].item() == pytest.approx(np.mean(values), abs=1e-10), name
    weights = {"audio": 2, "visual": 0.6, "clip": 0.6, "contrast": 1, "mutual": 1}
    assert losses["total"].item() == pytest.approx(sum(weights[name] * np.mean(values) for name, values in expected.items()), abs=1e-10)


def test_frames_go_through_their_layer_apart():
    """Averaging before the non-linearity would give another result."""
    batch, _ = example()
    method = build()
    inputs = method.inputs(batch)
    assert inputs.visual.shape == (3, 5, 2, 4)
    mean = inputs.visual.mean(dim=2, keepdim=True).expand_as(inputs.visual)
    apart, averaged = (method.front_end(frames, inputs.audio, inputs.motion)[1] for frames in (inputs.visual, mean))
    assert (apart - averaged).abs().max() > 0.01


def test_noise_ratios_come_from_jomolds_first_network(tmp_path):
    method = build(recipe={"epochs": 3, "batch_size": 2})
    jomold = METHODS.get("jomold").Config(width=6, feedforward=8, dropout=0.0, visual_dropout=0.0)
    assert method.config.first_method == "jomold"
    own, expected = method.config.first.model_dump(), jomold.first.model_dump()
    recipe = own.pop("recipe")
    assert (recipe["epochs"], recipe["batch_size"], recipe["selection"]) == (3, 2, "mean_of_ten")
    expected.pop("recipe")
    assert own == expected
    batch, targets = example()
    first = METHODS.get("jomold")(method.config.first, (2, 4), (7,), CLASSES, {"motion": (5,)}).double().eval()
    told = METHODS.get("jomold")(jomold, (2, 4), (7,), CLASSES, {"motion": (5,)}).double()
    with torch.no_grad():
        for learner in (method, told):
            learner.prepare(first, lambda: [(batch, targets)])
    assert method.noise_visual.max() > 0
    assert torch.equal(method.noise_visual, told.noise_visual)
    assert torch.equal(method.noise_audio, told.noise_audio)
    path = tmp_path / "ratios.npz"
    np.savez(path, audio=np.zeros(CLASSES), visual=np.full(CLASSES, 0.25))
    read = build(noise_ratios=path)
    assert read.config.first is None
    read.prepare(None, lambda: [])
    assert read.noise_visual.tolist() == [0.25] * CLASSES


def test_parameters_as_the_released_network_uses():
    """5,660,822 as released, less 277,529 that no forward pass reaches."""
    method = create("cmpae", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, other_shapes={"motion": (512,)})
    live = sum(weight.numel() for weight in method.parameters())
    assert live == 5_383_293
    assert live + 277_529 == 5_660_822
