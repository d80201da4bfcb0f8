"""CoLeaF: losses of a batch and their gradients against HAN and the References restated in NumPy, float64."""

from __future__ import annotations

import itertools
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from restatement import Restatement, binary, scatter
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as HanRestated

from pipeline.methods import Progress, create

MODALITIES = ("audio", "visual")


def build(variant="released", anchor="han", limit=0.7, seed=1, **config):
    torch.manual_seed(seed)
    dropouts = {"han": {}, "jomold": {"visual_dropout": 0.0}, "cmpae": {"visual_dropout": 0.0, "absence_dropout": 0.0}}[anchor]
    method = create(
        "coleaf", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, variant=variant, anchor=anchor,
        anchor_settings={"width": 6, "feedforward": 8, "dropout": 0.0, **dropouts}, feedforward=8, dropout=0.0, head_dropout=0.0, **config,
    )  # fmt: skip
    return scatter(method, limit)


class ReferencesRestated(Restatement):
    """One clip -> by modality tokens (T, D), P (C,), probabilities of the class tokens (C,)."""

    def __call__(self, visual, audio, motion):
        audio = self.linear("front_end.audio", audio)
        visual = self.linear("front_end.visual", visual).mean(axis=1)
        visual = self.linear("front_end.fusion", np.concatenate([visual, self.linear("front_end.motion", motion)], axis=1))
        said = {"audio": self.reference_branch("audio.", audio), "visual": self.reference_branch("visual.", visual)}
        return {modality: (tokens, clip, classes) for modality, (tokens, _, clip, classes) in said.items()}


class AnchorRestated(HanRestated):
    """HAN with the tokens in front."""

    def mmil(self, audio, visual):
        return audio, visual, *super().mmil(audio, visual)


def restated(method, batch):
    """Per clip, (tokens, P) of the Anchor and (tokens, P, class tokens) of the References by modality, and the Anchor's P."""
    anchor, references = AnchorRestated(method.anchor), ReferencesRestated(method.references)
    for clip, length in enumerate(LENGTHS):
        streams = [stream[clip, :length].numpy() for stream in (batch.visual, batch.audio, batch.others["motion"])]
        audio, visual, _, _, of_audio, of_visual, whole = anchor(*streams)
        yield {"audio": (audio, of_audio), "visual": (visual, of_visual)}, references(*streams), whole


def asymmetric(p, y, fixed):
    """Of one probability; ``fixed`` is its value in the weight, which passes no gradient."""
    weight = 1 - (fixed * y + min(1 - fixed + 0.05, 1) * (1 - y))
    return -weight * (y * math.log(p) + (1 - y) * math.log(min(1 - p + 0.05, 1)))


def unit_products(a, b):
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def share(references, modality, threshold):
    """Eqs. 9-11 of one clip."""
    own, other = (references[name][1] >= threshold for name in (modality, "visual" if modality == "audio" else "audio"))
    alone, both = sum(own & ~other), sum(own & other)
    return alone / (alone + both) if alone + both else 0.0


def targets_of(labels, number):
    y = labels[number].numpy()[:CLASSES]
    return {"audio": y, "visual": 0.9 * y + 0.05}


def expected_anchor(said, labels):
    """The cross-entropies of HAN, means over clips and classes."""
    terms = {"audio": [], "visual": [], "clip": []}
    for number, (anchor, _, whole) in enumerate(said):
        for c in range(CLASSES):
            for modality in MODALITIES:
                terms[modality].append(binary(anchor[modality][1][c], targets_of(labels, number)[modality][c]))
            terms["clip"].append(binary(min(whole[c], 1 - 1e-7), labels[number, c].item()))
    return {name: np.mean(values) for name, values in terms.items()}


# Thresholds and seeds with which every decision comes out both ways.
THRESHOLDS = {"event_threshold": 0.5, "pseudo_threshold_audio": 0.45, "pseudo_threshold_visual": 0.5}


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_the_released_steps_equal_the_restatement(epoch):
    batch, targets = example()
    method = build(**THRESHOLDS, seed=5, limit=1.0)
    said = list(restated(method, batch))
    steps = list(method.steps(batch, targets, Progress(epoch, 10)))
    assert len(steps) == 3
    for modality, terms in zip(MODALITIES, steps, strict=False):
        assert terms["total"].item() == pytest.approx(released_reference_total(said, said, targets.labels, modality, epoch), abs=1e-9)
    assert steps[2]["total"].item() == pytest.approx(released_anchor_total(said, said, targets.labels, epoch), abs=1e-9)


def released_reference_total(said, fixed, labels, modality, epoch):
    """``fixed``: the same, for what passes no gradient."""
    of_labels = of_tokens = of_pseudo = 0.0
    fired = []
    for number, ((_, references, _), (anchor, references_fixed, _)) in enumerate(zip(said, fixed, strict=True)):
        (_, p, tokens), (_, p_fixed, tokens_fixed) = references[modality], references_fixed[modality]
        for c in range(CLASSES):
            y = targets_of(labels, number)[modality][c]
            g = y * (anchor[modality][1][c] >= THRESHOLDS[f"pseudo_threshold_{modality}"])
            fired.append((y > 0.5, g > 0.5))
            of_labels += asymmetric(p[c], y, p_fixed[c])
            of_tokens += asymmetric(tokens[c], y, tokens_fixed[c])
            of_pseudo += asymmetric(p[c], g, p_fixed[c])
    assert {pseudo for positive, pseudo in fired if positive} == {True, False}
    if epoch < 3:
        return of_labels + {"audio": 1.2, "visual": 1.0}[modality] * of_tokens
    return 0.5 * of_labels + {"audio": 0.001, "visual": 0.0}[modality] * of_tokens + 0.5 * of_pseudo


def released_anchor_total(said, fixed, labels, epoch):
    terms = expected_anchor(said, labels)
    total = 2 * terms["audio"] + terms["visual"] + 2 * terms["clip"]
    if epoch == 0:
        return total
    contrast, pairs = dict.fromkeys(MODALITIES, 0.0), 0.0
    limits = {"audio": (0.8, 0.1), "visual": (0.6, 0.4)}
    for (number, (anchor, references, _)), modality in itertools.product(enumerate(said), MODALITIES):
        tokens, teacher, _ = references[modality]
        weight, length = share(references, modality, 0.5), len(tokens)
        s = np.exp(unit_products(tokens, anchor[modality][0]) / 0.2)  # the Reference asks
        for t in range(length):
            q = s[t] / s[t].sum()
            others = sum(q[n] for n in range(length) if n != t)
            contrast[modality] -= weight * math.log(0.9 * q[t] + (0.1 / (length - 1) * others if length > 1 else 0)) / sum(LENGTHS)
        p, y = anchor[modality][1], targets_of(labels, number)[modality]
        m = [((teacher[c] >= limits[modality][0]) + (teacher[c] <= limits[modality][1])) * y[c] for c in range(CLASSES)]
        t = [m[c] * teacher[c] + (1 - m[c]) * fixed[number][0][modality][1][c] for c in range(CLASSES)]
        pairs += sum((t[i] * t[j] - p[i] * p[j]) ** 2 for i in range(CLASSES) for j in range(CLASSES))
    assert min(contrast.values()) > 0.01
    assert pairs > 1e-3
    return total + 0.009 * contrast["audio"] + contrast["visual"] + 1e-4 * len(LENGTHS) / CLASSES * pairs


WEIGHTS = {
    "token_weight": 0.3, "self_modality_weight": 0.7, "co_occurrence_weight": 0.9, "contrast_weight_audio": 0.2,
    "contrast_weight_visual": 0.6,
}  # fmt: skip


@pytest.mark.parametrize("contrast", ["event_aware", "plain", "pseudo_labels", "none"])
def test_the_papers_objective_equals_the_restatement(contrast):
    batch, targets = example()
    method = build("paper", contrast=contrast, **THRESHOLDS, **WEIGHTS, seed=35)
    said = list(restated(method, batch))
    assert all(0 < sum(share(references, modality, 0.5) for _, references, _ in said[:2]) < 2 for modality in MODALITIES)
    steps = list(method.steps(batch, targets, Progress(0, 15)))
    assert len(steps) == 1
    assert steps[0]["total"].item() == pytest.approx(printed_total(said, said, targets.labels, contrast), abs=1e-9)


def printed_total(said, teachers, labels, contrast):
    """``teachers``: the same, for what the References teach without a gradient."""
    total = sum(expected_anchor(said, labels).values())  # HAN's own weights
    for number, modality in itertools.product(range(len(said)), MODALITIES):
        (anchor, references, _), taught = said[number], teachers[number][1]
        _, p, of_tokens = references[modality]
        learner, teacher, y = anchor[modality][1], taught[modality][1], labels[number].numpy()
        for c in range(CLASSES):
            g = float(learner[c] >= THRESHOLDS[f"pseudo_threshold_{modality}"])
            total += (binary(p[c], y[c]) + 0.3 * binary(of_tokens[c], y[c]) + 0.7 * binary(p[c], g)) / (3 * CLASSES)
        pairs = [(teacher[i] * teacher[j] - learner[i] * learner[j]) ** 2 for i in range(CLASSES) for j in range(CLASSES)]
        total += 0.9 * np.mean(pairs) / 3
        total += {"audio": 0.2, "visual": 0.6}[modality] * printed_contrast(contrast, anchor[modality], taught, modality) / 3
    return total


def printed_contrast(contrast, anchor, references, modality):
    """Of one clip: Eq. 8, with its share or with 1, or the References' decisions as labels."""
    if contrast == "none":
        return 0.0
    if contrast == "pseudo_labels":
        return np.mean([binary(p, float(r >= 0.5)) for p, r in zip(anchor[1], references[modality][1], strict=True)])
    s = np.exp(unit_products(anchor[0], references[modality][0]) / 0.2)
    length = len(s)
    terms = [math.log(s[t, t] / sum(s[t, n] for n in range(length) if n != t)) for t in range(length)] if length > 1 else [0.0]
    return -(share(references, modality, 0.5) if contrast == "event_aware" else 1) * sum(terms) / length


def assert_slope(method, batch, total, restated_total, part):
    """Compare autograd's slope of ``total`` along one direction in the weights of ``part`` with the restatement's, by differences."""
    copied = deepcopy(method)
    weights, moved = ({name: w for name, w in m.named_parameters() if name.startswith(part)} for m in (method, copied))
    direction = {name: torch.randn(w.shape, generator=torch.Generator().manual_seed(3), dtype=w.dtype) for name, w in weights.items()}
    gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    slope = sum((g * direction[name]).sum().item() for name, g in zip(weights, gradients, strict=True) if g is not None)
    ends = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            for name, weight in moved.items():
                weight.copy_(weights[name] + step * direction[name])
        ends.append(restated_total(list(restated(copied, batch))))
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("epoch", [1, 3])
def test_gradients_of_the_released_steps_are_the_slopes_of_the_restatement(epoch):
    batch, targets = example()
    method = build(**THRESHOLDS, seed=5, limit=1.0)
    fixed, labels = list(restated(method, batch)), targets.labels
    audio, visual, anchor = (terms["total"] for terms in method.steps(batch, targets, Progress(epoch, 10)))
    assert_slope(method, batch, audio, lambda said: released_reference_total(said, fixed, labels, "audio", epoch), "references.")
    assert_slope(method, batch, visual, lambda said: released_reference_total(said, fixed, labels, "visual", epoch), "references.")
    assert_slope(method, batch, anchor, lambda said: released_anchor_total(said, fixed, labels, epoch), "anchor.")


@pytest.mark.parametrize("part", ["references.", "anchor."])
def test_gradients_of_the_papers_objective_are_the_slopes_of_the_restatement(part):
    batch, targets = example()
    method = build("paper", **THRESHOLDS, **WEIGHTS, seed=35)
    teachers = list(restated(method, batch))
    total = next(iter(method.steps(batch, targets, Progress(0, 15))))["total"]
    assert_slope(method, batch, total, lambda said: printed_total(said, teachers, targets.labels, "event_aware"), part)
