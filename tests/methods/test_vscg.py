"""VSCG: its summaries by hand, and network and losses restated in NumPy, float64, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from propagation_restatement import Propagating, cosines
from restatement import LENGTHS, assert_near, assert_two_heads, clips, example, relu, sigmoid, small, softmax, video_loss

from pipeline.methods import Progress, create
from pipeline.methods.vscg.summary import EventSummary
from pipeline.tasks import avel

WIDTHS = {
    "attention_width": 5, "input_width": 6, "input_hidden": 7, "recurrent_width": 4, "classifier_width": 6, "dropout": 0.0,
    "recurrent_dropout": 0.0, "pair_weight": 3.0, "threshold": 0.15,
}  # fmt: skip


class Reference(Propagating):
    """One clip: (T, S, D_v), (T, D_a) -> full: event, classes, attention, both modalities; weak: segment logits, attention."""

    def __init__(self, method, weak):
        super().__init__(method, 0.15)
        self.weak = weak

    def convolved(self, name, steps):
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        around = np.pad(steps, ((2, 2), (0, 0)))
        return relu(np.stack([np.einsum("oik,ki->o", weight, around[t : t + 5]) + bias for t in range(len(steps))]))

    def summary(self, steps):
        for name in ("summary.first", "summary.second"):
            steps = self.convolved(name, steps)
            steps = np.stack([steps[t : t + 2].max(axis=0) for t in range(0, len(steps), 2)])
        return np.pad(steps, ((0, 2), (0, 0)))[:2]  # of clips shorter than 16 segments

    def gru(self, name, steps, start):
        outputs = []
        for state, suffix, ordered in zip(start, ("", "_reverse"), (steps, steps[::-1]), strict=True):
            kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weight_in, weight_hidden, bias_in, bias_hidden = (self.state[f"{name}.gru.{kind}_l0{suffix}"] for kind in kinds)
            found = []
            for step in ordered:
                (r, z, n), (hr, hz, hn) = np.split(weight_in @ step + bias_in, 3), np.split(weight_hidden @ state + bias_hidden, 3)
                z = sigmoid(z + hz)
                state = (1 - z) * np.tanh(n + sigmoid(r + hr) * hn) + z * state
                found.append(state)
            outputs.append(np.stack(found[::-1] if suffix else found))
        return np.concatenate(outputs, axis=1)

    def __call__(self, visual, audio):
        v, a, weights = self.body(visual, audio, refined=not self.weak, projected=self.weak, normalized=self.weak)
        of_visual, of_audio = self.summary(v), self.summary(a)
        if self.weak:
            starts = self.linear("visual_start", of_audio), self.linear("audio_start", of_visual)
        else:
            starts = [(of_visual + of_audio) / 2] * 2
        v, a = self.gru("visual_gru", v, starts[0]), self.gru("audio_gru", a, starts[1])
        if not self.weak:
            v, a = self.branch("visual_output", v), self.branch("audio_output", a)
        v, a = self.norm("norm", v, eps=1e-6), self.norm("norm", a, eps=1e-6)
        fused = (v + a) / 2
        if self.weak:
            return self.segment_logits(fused), weights
        return self.linear("event_head", fused)[:, 0], self.linear("class_head", fused.max(axis=0)), weights, v, a


def test_supervised_forward_and_losses_equal_the_numpy_restatement():
    method = small("vscg", limit=0.9, **WIDTHS)

    def extra(said, wanted):
        squares = []
        for (*_, v, a), bits in zip(said, ([0, 1, 1, 1, 0], [1, 1, 0], [0]), strict=True):
            shares, event = relu(cosines(v, a)), np.array(bits)
            soft = event / event.sum() if event.any() else np.full(len(event), 1 / len(event))
            squares += list((shares / (shares.sum() + 1e-8) - soft) ** 2)
        return {"pair": np.mean(squares), "total": wanted["total"] + 3 * np.mean(squares)}

    assert_two_heads(method, Reference(method, weak=False), extra)


def test_weak_forward_and_losses_equal_the_numpy_restatement():
    batch, _, targets = example()
    method = small("vscg", limit=0.9, **WIDTHS, supervision="weak")
    scores, network, losses = method.predict(batch), Reference(method, weak=True), []
    for clip, features in enumerate(clips(batch)):
        logits, weights = network(*features)
        assert_near(scores.segments[clip, : LENGTHS[clip]], softmax(logits), 1e-10)
        assert_near(scores.attention[clip, : LENGTHS[clip]], weights, 1e-10)
        pooled, labels = logits.mean(axis=0), targets.labels[clip].numpy()
        losses.append([video_loss(x, labels, "binary") for x in (pooled, softmax(pooled))])
    video, squashed = np.mean(losses, axis=0)
    wanted = {"video": video, "twice_squashed": squashed, "total": 2 * video + squashed}
    found = method.losses(batch, targets, Progress(0, 1))
    assert {name: term.item() for name, term in found.items()} == pytest.approx(wanted, abs=1e-10)


def test_ten_segments_leave_the_released_steps_and_twenty_their_halves():
    """Of ten segments: convolution, pool, convolution, pool without the last half window, as released."""
    torch.manual_seed(0)
    summary, steps = EventSummary(6), torch.randn(2, 20, 6)
    with torch.no_grad():

        def released(x):
            for convolution in (summary.first, summary.second):
                x = torch.nn.functional.max_pool1d(torch.relu(convolution(x)), 2)
            return x

        ten = released(steps[:, :10].transpose(1, 2)).transpose(1, 2)
        assert ten.shape == (2, 2, 3)
        torch.testing.assert_close(summary(steps[:, :10], torch.ones(2, 10, dtype=torch.bool)), ten)
        mask = torch.arange(20) < torch.tensor([10, 20])[:, None]
        both = summary(steps, mask)
        torch.testing.assert_close(both[0], ten[0])
        five = released(steps[1:].transpose(1, 2))[0]
        torch.testing.assert_close(both[1], torch.stack([five[:, :2].amax(dim=1), five[:, 2:4].amax(dim=1)]))


def test_events_are_decided_at_the_given_threshold():
    batch = example()[0]
    plain = small("vscg", **WIDTHS).predict(batch).event
    threshold = plain[batch.mask].sort().values[3:5].mean().item()
    strict = small("vscg", **WIDTHS, event_threshold=threshold).predict(batch)
    event = (avel.decide(strict, batch.mask) < 3)[batch.mask]
    assert torch.equal(event, (plain > threshold)[batch.mask])
    assert event.sum() == 5


@pytest.mark.parametrize(("supervision", "parameters"), [("full", 2_376_782), ("weak", 2_257_166)])
def test_parameters(supervision, parameters):
    method = create("vscg", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
