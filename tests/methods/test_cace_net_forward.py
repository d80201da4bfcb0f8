"""CACE-Net's forward pass and losses restated in NumPy, float64, clip by clip, from spec and paper; weights from the state_dict."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
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

from pipeline.methods import Method, Progress, create

HEADS, TOP_K = 2, 2
ALPHA, BETA, GAMMA, PSI, LAMBDA, NOISE, TEMPERATURE, WEIGHT = 0.15, 0.45, 0.35, 0.25, 0.65, 0.1, 0.05, 1.7
STEPS, TIME_CONSTANT = 15, 4.0
WIDTHS = {
    "visual_hidden": 10, "audio_hidden": 6, "attention_width": 5, "width": 8, "heads": HEADS,
    "intra_feedforward": 7, "cross_feedforward": 9, "alpha": ALPHA, "beta": BETA,
    "gamma": GAMMA, "psi": PSI, "lambda_contrast": LAMBDA, "contrast_noise": NOISE,
    "contrast_temperature": TEMPERATURE, "contrast_weight": WEIGHT, "top_k": TOP_K, "spiking_time_constant": TIME_CONSTANT,
}  # fmt: skip
NO_DROPOUT = {"input_dropout": 0.0, "dropout": 0.0, "interaction_dropout": 0.0}


class Reference(Restatement):
    """One clip at a time: visual (T, S, D_v), audio (T, D_a)."""

    def __init__(self, method: Method) -> None:
        super().__init__(method, HEADS)
        self.guidance, self.variant, self.temporal = method.config.guidance, method.config.variant, method.config.temporal
        self.enhanced_heads = method.config.enhanced_heads

    def refined(self, name, positions):
        attended = self.single_head(name, positions, positions)
        return self.norm("guidance.residual.norm", positions + attended) if self.variant == "released" else attended

    def guided_visual(self, positions, audio):
        return self.calibrated(positions, self.refined("guidance.attention", positions), audio, BETA)

    def guided_audio(self, maps, audio):
        own = self.single_head("guidance.audio.own", audio, audio)
        refined = self.norm("guidance.audio.residual.norm", audio + own) if self.variant == "released" else own
        separate = self.guidance == "both" and self.variant == "released"
        name = "guidance.attention_for_audio" if separate else "guidance.attention"
        squeezed = np.stack([self.refined(name, positions).mean(axis=0) for positions in maps])
        found = self.single_head("guidance.audio.query", squeezed, refined)
        return audio + PSI * sigmoid(found) * audio

    def encode(self, x):
        return relu(self.linear("contrast_encoder.0", x))

    def spikes(self, name, segments):
        """Leaky integrate-and-fire neurons, threshold 1, reset to 0: spikes per step of each segment."""
        membrane, rates = 0.0, []
        for current in self.linear(f"{name}.current", segments):
            fired = []
            for _ in range(STEPS):
                membrane = math.exp(-1 / TIME_CONSTANT) * membrane + current
                fired.append(membrane >= 1)
                membrane = np.where(fired[-1], 0.0, membrane)
            rates.append(np.mean(fired, axis=0))
        return np.stack(rates)

    def __call__(self, visual, audio, contrast):
        maps = relu(self.linear("visual_input.0", visual))
        if "audio_input.0.weight" in self.state:
            audio = relu(self.linear("audio_input.0", audio))
        guided, weights = maps.mean(axis=1), None
        if self.guidance in ("audio", "both"):
            pairs = [self.guided_visual(positions, a) for positions, a in zip(maps, audio, strict=True)]
            guided, weights = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        if self.guidance in ("visual", "both"):
            audio = self.guided_audio(maps, audio)
        if self.temporal == "snn":
            guided, audio = self.spikes("visual_temporal", guided), self.spikes("audio_temporal", audio)
        elif self.temporal != "none":
            both = self.temporal == "bilstm"
            guided, audio = self.lstm("visual_temporal", guided, both), self.lstm("audio_temporal", audio, both)
        visual_memory, audio_memory = self.intra("relation.visual_intra", guided), self.intra("relation.audio_intra", audio)
        audio_query = self.cross("relation.audio_cross", audio, visual_memory)
        visual_query = self.cross("relation.visual_cross", guided, audio_memory)
        audio_gate = sigmoid(self.linear("suppression.audio_gate", audio_memory))
        visual_gate = sigmoid(self.linear("suppression.visual_gate", visual_memory))
        visual_query, audio_query = visual_query * (1 + ALPHA * audio_gate), audio_query * (1 + ALPHA * visual_gate)
        scores = [self.linear("suppression.visual_scores", visual_query), self.linear("suppression.audio_scores", audio_query)]
        modality = sum(np.sort(each, axis=0)[::-1][:TOP_K].mean(axis=0) for each in scores) / 2
        first = self.interaction("suppression.interaction.visual", visual_query, audio_query)
        second = self.interaction("suppression.interaction.audio", audio_query, first)
        fused = (first + second) / 2
        final = fused + LAMBDA * self.encode(fused) if contrast else fused
        of_clip = (final if self.enhanced_heads == "both" else fused).max(axis=0)
        classes = self.linear("class_head", of_clip) + (GAMMA * modality if self.variant == "released" else 0)
        event = sigmoid(self.linear("event_head", final))[:, 0]
        return {
            "event": event, "class_logits": classes, "modality": modality, "gate": (audio_gate * visual_gate)[:, 0], "fused": fused,
            "attention": weights,
        }  # fmt: skip


def build(**config):
    torch.manual_seed(1)
    settings = {**WIDTHS, **NO_DROPOUT, **config}
    return scatter(create("cace_net", visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **settings))


def reference(method, batch, contrast):
    network = Reference(method)
    return network, [network(visual, audio, contrast) for visual, audio in clips(batch)]


GRID = [
    *({"guidance": g, "variant": v} for g, v in itertools.product(("none", "audio", "visual", "both"), ("released", "paper"))),
    {"temporal": "lstm"}, {"temporal": "snn"}, {"temporal": "none"}, {"audio_hidden": 7}, {"contrast": False}, {"enhanced_heads": "both"},
]  # fmt: skip


@pytest.mark.parametrize("config", GRID, ids=str)
@pytest.mark.parametrize("active", [False, True], ids=["before", "after"])
def test_prediction_equals_the_numpy_restatement(config, active):
    batch, _, _ = example()
    method = build(**config).eval()
    method.contrast_active.fill_(active)
    with torch.no_grad():
        scores = method.predict(batch)
    _, expected = reference(method, batch, active and method.config.contrast)
    for clip, (length, clip_expected) in enumerate(zip(LENGTHS, expected, strict=True)):
        event, classes = clip_expected["event"], softmax(clip_expected["class_logits"])
        np.testing.assert_allclose(scores.event[clip, :length], event, atol=1e-10)
        np.testing.assert_allclose(scores.classes[clip], classes, atol=1e-10)
        np.testing.assert_allclose(scores.segments[clip, :length, :CLASSES], np.outer(event, classes), atol=1e-10)
        np.testing.assert_allclose(scores.segments[clip, :length, CLASSES], 1 - event, atol=1e-10)
        if clip_expected["attention"] is None:
            assert scores.attention is None
        else:
            np.testing.assert_allclose(scores.attention[clip, :length], clip_expected["attention"], atol=1e-10)


def contrast_of_clip(queries, keys, events):
    """Eq. 7 of one clip, in loops: the sum over its rows."""
    rows = [row / np.linalg.norm(row) for row in (*queries, *keys)]
    half, total = len(queries), 0.0
    for i, row in enumerate(rows):
        others = [j for j in range(2 * half) if j != i]
        positives = [j for j in others if events[j % half]] if events[i % half] else [(i + half) % (2 * half)]
        denominator = sum(math.exp(row @ rows[j] / TEMPERATURE) for j in others)
        total -= math.log(sum(math.exp(row @ rows[j] / TEMPERATURE) for j in positives) / denominator / len(positives))
    return total


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("gate_loss", ["faithful", "corrected"])
def test_losses_equal_the_numpy_restatement(variant, gate_loss):
    """Third clip: no event. Released: class 0 in the class terms; paper: left out of them."""
    batch, targets, _ = example()
    method = build(variant=variant, gate_loss=gate_loss).train()
    torch.manual_seed(5)
    terms = method.losses(batch, targets, Progress(10, 80))
    torch.manual_seed(5)
    noise = torch.randn(3, 5, 8, dtype=torch.float64).numpy()
    network, expected = reference(method, batch, contrast=True)
    events, gates, classes, modalities, contrast = [], [], [], [], 0.0
    for clip, (length, values) in enumerate(zip(LENGTHS, expected, strict=True)):
        truth = [int(label) < CLASSES for label in targets.segments[clip, :length]]
        events += [binary(value, bit) for value, bit in zip(values["event"], truth, strict=True)]
        opened = sigmoid(values["gate"]) if gate_loss == "faithful" else values["gate"]
        gates += [binary(value, bit) for value, bit in zip(opened, truth, strict=True)]
        if any(truth) or variant == "released":
            label = int(targets.video[clip]) if any(truth) else 0
            classes.append(-math.log(softmax(values["class_logits"])[label]))
            modalities.append(-math.log(softmax(values["modality"])[label]))
        noisy = values["fused"] + NOISE * noise[clip, :length]
        contrast += contrast_of_clip(network.encode(values["fused"]), network.encode(noisy), truth)
    wanted = {
        "event": np.mean(events), "gate": np.mean(gates), "class": np.mean(classes), "modality_class": np.mean(modalities),
        "contrast": contrast / (2 * sum(LENGTHS)),
    }  # fmt: skip
    wanted["total"] = sum(wanted.values()) + (WEIGHT - 1) * wanted["contrast"]
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize(("variant", "active"), [("released", False), ("released", True), ("paper", True)])
def test_weak_losses_and_scores_equal_the_numpy_restatement(variant, active):
    batch, _, targets = example()
    method = build(variant=variant, supervision="weak").eval()
    method.contrast_active.fill_(active)
    with torch.no_grad():  # the event head must take some segments for events and some not
        method.event_head.bias -= method.predict(batch).event[0].logit().median() + 1e-3
    torch.manual_seed(5)
    terms = method.train().losses(batch, targets, Progress(10 if active else 0, 80))
    assert bool(method.contrast_active) == active
    torch.manual_seed(5)
    noise = torch.randn(3, 5, 8, dtype=torch.float64).numpy()
    network, expected = reference(method, batch, active)
    with torch.no_grad():
        scores = method.eval().predict(batch)
    videos, modalities, contrast, supposed = [], [], 0.0, []
    for clip, (length, values) in enumerate(zip(LENGTHS, expected, strict=True)):
        event, classes, labels = values["event"], softmax(values["class_logits"]), targets.labels[clip].numpy()
        np.testing.assert_allclose(scores.event[clip, :length], event, atol=1e-10)
        np.testing.assert_allclose(scores.classes[clip], classes, atol=1e-10)
        np.testing.assert_allclose(scores.segments[clip, :length, :CLASSES], np.outer(event, classes[:CLASSES]), atol=1e-10)
        np.testing.assert_allclose(scores.segments[clip, :length].sum(-1), 1)
        pooled = np.array([max(e * logit for e in event) for logit in values["class_logits"]])
        videos.append(video_loss(pooled, labels, "cross_entropy"))
        modalities.append(video_loss(values["modality"], labels, "cross_entropy"))
        supposed.append([bool(e > 0.5) and clip != 2 for e in event])  # clip 2 has no event
        keys = network.encode(values["fused"] + NOISE * noise[clip, :length])
        contrast += contrast_of_clip(network.encode(values["fused"]), keys, supposed[-1])
    assert {True, False} <= {bit for bits in supposed[:2] for bit in bits}  # else the contrast would not tell events from background
    wanted = {"video": np.mean(videos), "modality_video": np.mean(modalities), "contrast": active * contrast / (2 * sum(LENGTHS))}
    wanted["total"] = sum(wanted.values()) + (WEIGHT - 1) * wanted["contrast"]
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)
