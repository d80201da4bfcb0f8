"""MAGAN: its losses by hand, and network and losses restated in NumPy, float64, clip by clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from restatement import Restatement, assert_two_heads, binary, example, relu, sigmoid, small, softmax, video_loss

from pipeline.batch import Batch
from pipeline.methods import create
from pipeline.methods.magan.method import divisor, mean_gate_loss

WIDTHS = {
    "recurrent_width": 4, "width": 8, "heads": 2, "feedforward": 7, "input_dropout": 0.0, "dropout": 0.0, "interaction_dropout": 0.0,
}  # fmt: skip
BITS = [[0, 1, 1, 1, 0], [1, 1, 0], [0]]


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> event, classes, attention, g_a, g_v, m (T,), class scores of the modalities and of F (K,)."""

    def own(self, name, x, heads):
        x = self.norm(f"{name}.norm", x)
        x = self.norm(f"{name}.norm", x + self.multi_head(f"{name}.attention", x, x, heads))
        return relu(self.linear(f"{name}.output.0", x))

    def gate(self, name, positions, audio):
        q = relu(self.linear(f"{name}.visual", positions)) * relu(self.linear(f"{name}.audio", audio))
        both = np.concatenate([q.mean(axis=0), q.max(axis=0)])
        return sigmoid(self.linear(f"{name}.up", relu(self.linear(f"{name}.down", both))))

    def calibrated(self, name, first, second):
        b = self.state[f"{name}.calibration.strength"]
        return first * (1 + b[0] * sigmoid(second)) + second * (1 + b[1] * sigmoid(first))

    def top4(self, scores):
        return np.sort(scores, axis=0)[::-1][:4].mean(axis=0)

    def __call__(self, visual, audio):
        maps, sounds = [self.own("visual_own", positions, 2) for positions in visual], self.own("audio_own", audio, 1)
        v, a, weights = [], [], []
        for positions, sound in zip(maps, sounds, strict=True):
            gated = positions * (1 + self.gate("audio_guides.gate", positions, sound))
            guide = np.concatenate([gated.mean(axis=0), gated.max(axis=0)])
            first = self.position_weights("audio_guides.by_map", positions, guide) @ gated
            weights.append(self.position_weights("audio_guides.by_audio", gated, sound))
            v.append(self.calibrated("audio_guides", first, weights[-1] @ gated))
            y = relu(self.linear("visual_guides.gate.audio", sound)) * (1 + self.gate("visual_guides.gate", positions, sound))
            a.append(y * (2 + self.state["visual_guides.calibration.strength"].sum() * sigmoid(y)))
        v, a = self.lstm("visual_lstm", np.stack(v)), self.lstm("audio_lstm", np.stack(a))
        own_v, own_a = self.intra("relation.visual_intra", v), self.intra("relation.audio_intra", a)
        v, a = self.cross("relation.visual_cross", v, own_a), self.cross("relation.audio_cross", a, own_v)
        v = self.interaction("visual_interaction", v, a)
        a = self.interaction("audio_interaction", a, v)
        gate_a, gate_v = sigmoid(self.linear("audio_gate", own_a)), sigmoid(self.linear("visual_gate", own_v))
        modalities = self.top4(self.linear("visual_scores", 0.9 * v + 0.1 * gate_a * v))
        modalities = modalities + self.top4(self.linear("audio_scores", 0.9 * a + 0.1 * gate_v * a))
        hidden = relu(self.linear("fusion_gate.0", np.concatenate([v, a], axis=1)))
        m = sigmoid(self.linear("fusion_gate.2", hidden))
        fused = m * v + (1 - m) * a
        heads = self.linear("event_head", fused)[:, 0], self.linear("class_head", fused.max(axis=0))
        return *heads, np.stack(weights), gate_a[:, 0], gate_v[:, 0], m[:, 0], modalities, self.top4(self.linear("fusion_scores", fused))


@pytest.mark.parametrize("form", ["corrected", "faithful"])
def test_supervised_forward_and_losses_equal_the_numpy_restatement(form):
    method = small("magan", **WIDTHS, losses=form)

    def extra(said, wanted):
        terms = {name: [] for name in ("modality_gate", "fusion_gate", "modality_class", "fusion_class")}
        for (*_, gate_a, gate_v, m, modalities, fusion), bits, own in zip(said, BITS, (1, 0, 0), strict=True):
            if form == "faithful":
                pairs = (("modality_gate", sigmoid(gate_a + gate_v)), ("fusion_gate", sigmoid(m)))
                modalities, fusion = softmax(modalities), softmax(fusion)
            else:
                pairs = (("modality_gate", (gate_a + gate_v) / 2), ("fusion_gate", m))
            for name, probabilities in pairs:
                terms[name] += [binary(p, bit) for p, bit in zip(probabilities, bits, strict=True)]
            terms["modality_class"].append(-math.log(softmax(modalities)[own]))
            terms["fusion_class"].append(-math.log(softmax(fusion)[own]))
        terms = {name: np.mean(values) for name, values in terms.items()}
        return {**terms, "total": wanted["total"] + sum(terms.values()) / 2}

    assert_two_heads(method, Reference(method), extra)


def test_weak_forward_and_losses_equal_the_numpy_restatement():
    method = small("magan", **WIDTHS, supervision="weak")

    def extra(said, wanted):
        labels = example()[2].labels.numpy()
        terms = {
            name: np.mean([video_loss(clip[place], y, "cross_entropy") for clip, y in zip(said, labels, strict=True)])
            for name, place in (("modality_class", -2), ("fusion_class", -1))
        }
        return {**terms, "total": wanted["total"] + sum(terms.values()) / 2}

    assert_two_heads(method, Reference(method), extra)


def test_a_clips_answer_does_not_depend_on_the_others():
    """The released self-attention runs over the clips of the batch, which moves logits by a tenth."""
    method, (batch, _, _) = small("magan", **WIDTHS).eval(), example()
    together = method.predict(batch)
    alone = method.predict(Batch(batch.visual[:1], batch.audio[:1], batch.mask[:1]))
    torch.testing.assert_close(together.segments[:1], alone.segments)


def test_mean_gates_are_exact_where_they_saturate():
    first, second = torch.tensor([[[-200, 200, 0.3]], [[-200, 200, -1.0]]], dtype=torch.float64)
    truth = torch.tensor([[0.0, 1.0, 1.0]]).double()
    found = mean_gate_loss(first, second, truth)[0].tolist()
    mean = (sigmoid(0.3) + sigmoid(-1.0)) / 2
    assert found == pytest.approx([0, 0, -math.log(mean)], abs=1e-12)
    assert mean_gate_loss(first, second, 1 - truth)[0, :2].tolist() == pytest.approx([200, 200])


def test_parameters_and_heads_that_divide():
    for supervision, parameters in (("full", 12_507_386), ("weak", 12_508_414)):
        method = create("magan", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
        assert sum(parameter.numel() for parameter in method.parameters()) == parameters
    assert [divisor(width, 4) for width in (512, 6, 7)] == [4, 3, 1]
