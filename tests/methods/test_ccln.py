"""CCLN-style: forward pass and losses restated in NumPy, float64, clip by clip, from the formulas; what each switch leaves out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from restatement import (
    AUDIO_SHAPE,
    CLASSES,
    LENGTHS,
    VISUAL_SHAPE,
    Restatement,
    binary,
    clips,
    example,
    relu,
    scatter,
    sigmoid,
    softmax,
    video_loss,
)

from pipeline.methods import Progress, create

ALPHA, BETA, GAMMA, TOP_K = 0.15, 0.45, 0.35, 2
FOREGROUND, CONTRAST = 0.7, 0.3
MARGIN, TEMPERATURE, REACH, TAU = 1.3, 0.4, 1.7, 0.6
WIDTHS = {
    "visual_hidden": 6, "audio_hidden": 5, "attention_width": 3, "width": 8, "heads": 2, "intra_feedforward": 7, "cross_feedforward": 9,
    "contrast_width": 5, "alpha": ALPHA, "beta": BETA, "gamma": GAMMA, "top_k": TOP_K,
    "foreground_weight": FOREGROUND, "foreground_margin": MARGIN, "foreground_temperature": TEMPERATURE, "foreground_reach": REACH,
    "contrast_weight": CONTRAST, "contrast_temperature": TAU,
    "input_dropout": 0.0, "dropout": 0.0, "interaction_dropout": 0.0,
}  # fmt: skip


def top_mean(scores):
    return np.sort(scores, axis=0)[::-1][:TOP_K].mean(axis=0)


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> everything the heads and the losses see, by name."""

    def __init__(self, method, interaction):
        super().__init__(method)
        self.interaction_kind = interaction

    def guided(self, positions, audio):
        refined = self.norm("guidance.residual.norm", positions + self.single_head("guidance.attention", positions, positions))
        return self.calibrated(positions, refined, audio, BETA)

    def exchanged(self, visual, audio):
        """SBI, segment pair by segment pair."""
        if self.interaction_kind == "none":
            return visual, audio
        name, width = "interaction", visual.shape[1]
        visual_query, audio_query = self.linear(f"{name}.visual_query", visual), self.linear(f"{name}.audio_query", audio)
        visual_value, audio_value = self.linear(f"{name}.visual_value", visual), self.linear(f"{name}.audio_value", audio)
        steps = range(len(visual))
        gate = np.ones((len(visual), len(visual)))
        if self.interaction_kind == "gated":
            fused = relu(self.linear(f"{name}.fusion.0", np.concatenate([visual, audio], axis=1)))
            one, other = self.linear(f"{name}.visual_gate", fused), self.linear(f"{name}.audio_gate", fused)
            gate = np.array([[sigmoid(one[i] @ other[j] / math.sqrt(width)) for j in steps] for i in steps])
        correlation = np.array([[visual_query[i] @ audio_query[j] / math.sqrt(width) for j in steps] for i in steps])
        to_visual = [sum(gate[i, j] * softmax(correlation[i])[j] * audio_value[j] for j in steps) for i in steps]
        to_audio = [sum(gate[i, j] * softmax(correlation[:, j])[i] * visual_value[i] for i in steps) for j in steps]
        results = []
        for kind, own, taken in (("visual", visual, to_visual), ("audio", audio, to_audio)):
            x = self.norm(f"{name}.{kind}_norm", own + np.stack(taken))
            block = f"{name}.{kind}_feedforward"
            update = self.linear(f"{block}.layers.3", relu(self.linear(f"{block}.layers.0", x)))
            results.append(self.norm(f"{block}.norm", x + update))
        return results

    def __call__(self, visual, audio):
        maps = relu(self.linear("visual_input.0", visual))
        pairs = [self.guided(positions, a) for positions, a in zip(maps, audio, strict=True)]
        own_visual = self.intra("visual_intra", self.lstm("visual_lstm", np.stack([pair[0] for pair in pairs])))
        own_audio = self.intra("audio_intra", self.lstm("audio_lstm", audio))
        visual, audio = self.exchanged(own_visual, own_audio)
        visual_gate = sigmoid(self.linear("suppression.visual_gate", own_visual))
        audio_gate = sigmoid(self.linear("suppression.audio_gate", own_audio))
        visual, audio = visual * (1 + ALPHA * audio_gate), audio * (1 + ALPHA * visual_gate)
        modality = self.linear("suppression.visual_scores", visual), self.linear("suppression.audio_scores", audio)
        modality = (top_mean(modality[0]) + top_mean(modality[1])) / 2
        first = self.interaction("suppression.interaction.visual", visual, audio)
        fused = (first + self.interaction("suppression.interaction.audio", audio, first)) / 2
        event = sigmoid(self.linear("event_head", fused))[:, 0]
        embeddings = None
        if "branch.visual.0.weight" in self.state:
            embeddings = [
                event @ self.linear(f"branch.{kind}.2", relu(self.linear(f"branch.{kind}.0", own)))
                for kind, own in (("visual", own_visual), ("audio", own_audio))
            ]
        return {
            "fused": fused, "event": event, "classes": self.linear("class_head", fused.max(axis=0)) + GAMMA * modality,
            "modality": modality, "gate": (visual_gate * audio_gate)[:, 0], "embeddings": embeddings,
            "attention": np.stack([pair[1] for pair in pairs]),
        }  # fmt: skip


def build(**config):
    torch.manual_seed(1)
    return scatter(create("ccln", visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **{**WIDTHS, **config}))


def expected_of(method, batch):
    network = Reference(method, method.config.interaction)
    return [network(*features) for features in clips(batch)]


def foreground_of(fused, events):
    """Of one clip; None without both kinds."""
    pairs = list(itertools.product(*([t for t, bit in enumerate(events) if bit == kind] for kind in (True, False))))
    if not pairs:
        return None
    distances = [1 - fused[i] @ fused[j] / np.linalg.norm(fused[i]) / np.linalg.norm(fused[j]) for i, j in pairs]
    weights = softmax(np.array([-d / TEMPERATURE - (abs(i - j) - 1) / REACH for d, (i, j) in zip(distances, pairs, strict=True)]))
    return sum(w * max(0.0, MARGIN - d) for w, d in zip(weights, distances, strict=True))


def contrast_of(embeddings, labels):
    """Over all clips of the batch; ``labels``: sets of classes."""
    unit = [[x / np.linalg.norm(x) for x in of_kind] for of_kind in zip(*embeddings, strict=True)]
    losses = []
    for clip, own in enumerate(labels):
        positives = [other for other, theirs in enumerate(labels) if own & theirs]
        for asking, asked in (unit, unit[::-1]) if positives else ():
            shares = softmax(np.array([asking[clip] @ x / TAU for x in asked]))
            losses.append(-np.mean([math.log(shares[p]) for p in positives]))
    return np.mean(losses)


def assert_scores(scores, expected):
    for clip, (length, values) in enumerate(zip(LENGTHS, expected, strict=True)):
        event, classes = values["event"], softmax(values["classes"])
        np.testing.assert_allclose(scores.event[clip, :length].detach(), event, atol=1e-10)
        np.testing.assert_allclose(scores.classes[clip].detach(), classes, atol=1e-10)
        np.testing.assert_allclose(scores.segments[clip, :length, :CLASSES].detach(), np.outer(event, classes[:CLASSES]), atol=1e-10)
        np.testing.assert_allclose(scores.attention[clip, :length].detach(), values["attention"], atol=1e-10)


SWITCHES = [
    {}, {"interaction": "plain"}, {"interaction": "none"}, {"foreground_enhancement": False}, {"contrast": False},
    {"interaction": "none", "foreground_enhancement": False, "contrast": False},
]  # fmt: skip


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_supervised_forward_and_losses_equal_the_numpy_restatement(switches):
    batch, targets, _ = example()
    method = build(**switches)
    terms, expected = method.losses(batch, targets, Progress(0, 1)), expected_of(method, batch)
    assert_scores(method.predict(batch), expected)
    events, gates, classes, modalities, foreground = [], [], [], [], []
    for clip, (length, values) in enumerate(zip(LENGTHS, expected, strict=True)):
        truth = [int(label) < CLASSES for label in targets.segments[clip, :length]]
        events += [binary(e, y) for e, y in zip(values["event"], truth, strict=True)]
        gates += [binary(g, y) for g, y in zip(values["gate"], truth, strict=True)]
        label = [1, 0, 0][clip]  # the clip without an event counts as class 0
        classes.append(-np.log(softmax(values["classes"])[label]))
        modalities.append(-np.log(softmax(values["modality"])[label]))
        foreground.append(foreground_of(values["fused"], truth))
    wanted = {"event": np.mean(events), "class": np.mean(classes), "gate": np.mean(gates), "modality_class": np.mean(modalities)}
    wanted |= modules(method, expected, foreground, [{1}, {0}, set()], sum(wanted.values()))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_weak_forward_and_losses_equal_the_numpy_restatement(switches):
    batch, _, targets = example()
    method = build(supervision="weak", **switches)
    with torch.no_grad():  # the event head must take some segments for events and some not
        method.event_head.bias -= method.predict(batch).event[0].logit().median() + 1e-6
    terms, expected = method.losses(batch, targets, Progress(0, 1)), expected_of(method, batch)
    assert_scores(method.predict(batch), expected)
    videos, modalities, foreground = [], [], []
    for clip, values in enumerate(expected):
        labels = targets.labels[clip].numpy()
        pooled = np.array([max(e * logit for e in values["event"]) for logit in values["classes"]])
        videos.append(video_loss(pooled, labels, "cross_entropy"))
        modalities.append(video_loss(values["modality"], labels, "cross_entropy"))
        foreground.append(foreground_of(values["fused"], [bool(e > 0.5) and clip != 2 for e in values["event"]]))
    assert foreground[0] is not None
    wanted = {"video": np.mean(videos), "modality_video": np.mean(modalities)}
    wanted |= modules(method, expected, foreground, [{1}, {0, 2}, set()], sum(wanted.values()))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)


def modules(method, expected, foreground, labels, total):
    """The terms of FEE and WCCL where they are on, and the total."""
    terms = {}
    if method.config.foreground_enhancement:
        terms["foreground"] = np.mean([loss for loss in foreground if loss is not None])
        total += FOREGROUND * terms["foreground"]
    if method.config.contrast:
        terms["contrast"] = contrast_of([values["embeddings"] for values in expected], labels)
        total += CONTRAST * terms["contrast"]
    return {**terms, "total": total}


def test_the_branch_has_no_part_in_inference_and_does_not_move_the_event_head():
    batch, targets, _ = example()
    method = build()
    scores = method.predict(batch)
    with torch.no_grad():
        for parameter in method.branch.parameters():
            parameter.add_(1)
    torch.testing.assert_close(method.predict(batch).segments, scores.segments, atol=0, rtol=0)
    method.losses(batch, targets, Progress(0, 1))["contrast"].backward()
    assert method.event_head.weight.grad is None
    assert method.visual_intra.project.weight.grad.abs().max() > 0


def test_embeddings_are_finite_where_no_segment_can_be_an_event():
    batch, targets, _ = example()
    method = build()
    with torch.no_grad():
        method.event_head.bias.fill_(-1e4)  # every probability underflows
    terms = method.losses(batch, targets, Progress(0, 1))
    terms["contrast"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in method.branch.parameters())


def test_the_gate_closes_the_interaction_down_to_none_of_the_other_modality():
    """With the gate at zero neither modality sees the other any more; the plain attention has no gate to close."""
    batch, _, _ = example()
    one, other = build().interaction, batch.audio.new_zeros(1, 4, 8)
    features = torch.randn(2, 1, 4, 8, dtype=torch.float64)
    mask = torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        one.fusion[0].weight.zero_()
        one.fusion[0].bias.fill_(1)
        one.visual_gate.bias.fill_(50)
        one.audio_gate.bias.fill_(-50)
        visual, audio = one(features[0], features[1], mask)
        torch.testing.assert_close(one(features[0], other, mask)[0], visual)
        torch.testing.assert_close(one(other, features[1], mask)[1], audio)
        one.audio_gate.bias.fill_(50)
        assert (one(features[0], features[1], mask)[0] - visual).abs().max() > 1e-3


SIZES = [({}, 9_200_473), ({"supervision": "weak"}, 9_201_244)]


@pytest.mark.parametrize(("config", "parameters"), SIZES, ids=str)
def test_parameters_at_the_published_feature_shapes(config, parameters):
    method = create("ccln", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, **config)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"heads": 3}, "heads"), ({"visual_hidden": 7}, "visual_hidden.*even"), ({"interaction": "closed"}, "gated")],
)
def test_settings_that_do_not_fit(setting, message):
    with pytest.raises(ValidationError, match=message):
        build(**setting)
