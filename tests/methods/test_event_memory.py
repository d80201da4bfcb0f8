"""The event memory: what is stored, by hand, and network and losses restated in NumPy, float64, clip by clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from restatement import LENGTHS, Restatement, assert_near, binary, clips, example, relu, sigmoid, small, softmax

from pipeline.methods import Progress, create
from pipeline.methods.event_memory.memory import EventMemory, agreement

WIDTHS = {
    "slots": 2, "width": 8, "heads": 2, "feedforward": 7, "dropout": 0.0, "head_dropout": 0.0, "modality_weight": 0.3,
    "prototype_weight": 0.2, "margin_weight": 0.4,
}  # fmt: skip
BITS = [[0, 1, 1, 1, 0], [1, 1, 0], [0]]


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> F, a', v', (T, D) each."""

    def embed(self, name, x):
        hidden = self.linear(f"fusion.{name}.0", x)
        return self.linear(f"fusion.{name}.2", np.where(hidden > 0, hidden, 0.01 * hidden))

    def encoder(self, name, x):
        x = self.norm(f"{name}.norm1", x + self.multi_head(f"{name}.self_attn", x, x))
        return self.norm(f"{name}.norm2", x + self.linear(f"{name}.linear2", relu(self.linear(f"{name}.linear1", x))))

    def query(self, name, x, memory):
        x = self.norm(f"{name}.attention_norm", x + self.multi_head(f"{name}.attention", x, memory))
        hidden = relu(self.linear(f"{name}.feedforward.0", x))
        return self.norm(f"{name}.feedforward_norm", x + self.linear(f"{name}.feedforward.3", hidden))

    def convolved(self, name, steps):
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        around = np.pad(steps, ((1, 1), (0, 0)))
        return np.stack([np.einsum("oik,ki->o", weight, around[t : t + 3]) + bias for t in range(len(steps))])

    def __call__(self, visual, audio):
        x, z = self.embed("embed_audio", audio), self.embed("embed_visual", visual)
        place = np.array([[f(n / 10000 ** (2 * i / 8)) for i in range(4) for f in (math.sin, math.cos)] for n in range(z.shape[1])])
        z = np.stack([self.encoder("fusion.over_positions", positions + place) for positions in z])
        by_position = np.stack([self.query("fusion.of_positions", own[None], positions)[0] for own, positions in zip(x, z, strict=True)])
        a, v = self.encoder("fusion.over_audio", x), self.encoder("fusion.over_visual", z.mean(axis=1))
        steps = self.convolved("fusion.first", np.concatenate([by_position, self.query("fusion.of_visual", a, v)], axis=1))
        return self.norm("fusion.norm", self.convolved("fusion.second", np.where(steps > 0, steps, 0.01 * steps))), a, v

    def remembered(self):
        return np.stack([self(*slots)[0] for slots in zip(self.state["memory.visual"], self.state["memory.audio"], strict=True)])


def apart(x, y):
    return np.linalg.norm(x[:, None] - y, axis=-1) / math.sqrt(8)


@pytest.mark.parametrize("supervision", ["full", "weak"])
def test_forward_and_losses_equal_the_numpy_restatement(supervision):
    """With a full memory, in evaluation mode, where nothing is stored."""
    batch, targets, videos = example()
    method, weak = small("event_memory", **WIDTHS, supervision=supervision).eval(), supervision == "weak"
    generator = torch.Generator().manual_seed(5)
    for buffer in (method.memory.audio, method.memory.visual):
        buffer.copy_(torch.randn(buffer.shape, generator=generator))
    margin = method.config.margin
    network = Reference(method)
    memory = network.remembered()
    scores, terms = method.predict(batch), method.losses(batch, videos if weak else targets, Progress(0, 1))
    found = {name: [] for name in ("event", "class", "modality_class", "prototype", "margin")}
    for clip, features in enumerate(clips(batch)):
        fused, a, v = network(*features)
        length, own, bits = LENGTHS[clip], [1, 0, 0][clip], BITS[clip]
        prototypes = -10 * apart(fused, memory.mean(axis=1)).mean(axis=0)
        classes = network.linear("class_head", fused).mean(axis=0)
        answer = (softmax(prototypes) + softmax(classes)) / 2 if weak else softmax(prototypes)
        assert_near(scores.classes[clip], answer, 1e-6)  # the positional code is float32
        assert_near(scores.event[clip, :length], sigmoid(margin - apart(fused, memory[answer.argmax()]).min(axis=1)), 1e-6)
        d, p = apart(fused, memory[own]), sigmoid(network.linear("event_head", fused)[:, 0])
        far, near = d.max(axis=1), np.maximum(0, margin - d.min(axis=1))
        alone = [network.linear(f"{name}_class_head", x) for name, x in (("audio", a), ("visual", v))]
        entropies = [-sum(np.log(softmax(x[t])[own]) for x in alone) for t in range(length)]
        if weak:
            found["event"].append(binary(p.mean(), clip < 2))
            if clip == 2:  # background alone
                continue
            found["modality_class"] += entropies
            found["margin"] += list(p * far + (1 - p) * near)
        else:
            found["event"] += [binary(x, bit) for x, bit in zip(p, bits, strict=True)]
            found["modality_class"] += [x * bit for x, bit in zip(entropies, bits, strict=True)]
            of = [[x for x, bit in zip(values, bits, strict=True) if bit == kind] for values, kind in ((far, 1), (near, 0))]
            found["margin"].append(sum(np.mean(values) for values in of if values))
        found["class"].append(-np.log(softmax(classes)[own]))
        found["prototype"].append(-np.log(softmax(prototypes)[own]))
    wanted = {name: np.mean(values) for name, values in found.items()}
    wanted["total"] = (
        wanted["event"] + wanted["class"] + 0.3 * wanted["modality_class"] + 0.2 * wanted["prototype"] + 0.4 * wanted["margin"]
    )
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-6)


def offer(memory, *candidates):
    """(audio's sum, score, class, offered) of each clip."""
    audio, scores, classes, offered = zip(*candidates, strict=True)
    rows = torch.tensor(audio, dtype=torch.float32)[:, None].expand(-1, 2) / 2
    memory.offer(rows, rows[:, None], torch.tensor(scores), torch.tensor(classes), torch.tensor(offered))


def test_the_best_segments_of_a_class_stay():
    """Empty slots first, then the worst gives way to a better one; a known sum, a worse one, a clip not offered: nothing."""
    memory = EventMemory(2, 2, (1, 2), 2)
    offer(memory, (1.0, 0.5, 0, True), (2.0, 0.1, 0, True), (3.0, 0.9, 1, True))
    assert memory.scores.tolist() == [pytest.approx([0.5, 0.1]), pytest.approx([0.9, -1.0])]
    offer(memory, (1.0, 0.8, 0, True), (4.0, 0.05, 0, True), (5.0, 0.7, 0, False), (6.0, 0.3, 0, True), (7.0, 0.4, 1, True))
    assert memory.audio.sum(dim=-1).tolist() == [[1.0, 6.0], [3.0, 7.0]]
    assert memory.visual.sum(dim=(-1, -2)).tolist() == [[1.0, 6.0], [3.0, 7.0]]
    assert memory.scores.tolist() == [pytest.approx([0.5, 0.3]), pytest.approx([0.9, 0.4])]


def test_a_segment_is_known_again_whatever_its_layout():
    """The same numbers add up to other last digits in another order, and a column of a table is added in another order than a row."""
    columns = torch.randn(37, 3, generator=torch.Generator().manual_seed(0)).T  # three sounds, each strided
    memory, every = EventMemory(1, 6, (1, 2), 37), torch.ones(3, dtype=torch.bool)
    for _ in range(2):
        memory.offer(columns, torch.zeros(3, 1, 2), torch.full((3,), 0.5), torch.zeros(3, dtype=torch.long), every)
    assert (memory.scores > -1).sum() == 3


def test_training_offers_the_best_event_segment_of_each_clip_and_evaluation_none():
    batch, targets, _ = example()
    method = small("event_memory", **WIDTHS)
    method.eval().losses(batch, targets, Progress(0, 1))
    assert (method.memory.scores == -1).all()
    method.train().losses(batch, targets, Progress(0, 1))
    fused = method.fusion(batch.visual.flatten(2, 3), batch.audio, batch.mask)
    scores = agreement(fused.audio, fused.visual).detach()
    for clip, own in ((0, 1), (1, 0)):
        events = [t for t, bit in enumerate(BITS[clip]) if bit]
        best = max(events, key=lambda t, clip=clip: scores[clip, t])
        torch.testing.assert_close(method.memory.audio[own, 0], batch.audio[clip, best])
        torch.testing.assert_close(method.memory.scores[own, 0], scores[clip, best] + 1)
    assert (method.memory.scores > -1).sum() == 2  # nothing of the clip without an event


def test_agreement_by_hand():
    first, second = np.random.default_rng(0).standard_normal((2, 6))
    p, q = softmax(first), softmax(second)
    m = (p + q) / 2
    wanted = 1 - (sum(p * np.log(p / m)) + sum(q * np.log(q / m))) / 2
    assert agreement(torch.tensor(first)[None, None], torch.tensor(second)[None, None]).item() == pytest.approx(wanted)


def test_parameters_and_recipe():
    shapes = {"visual_shape": (7, 7, 512), "audio_shape": (128,), "num_classes": 28}
    full, weak = create("event_memory", **shapes), create("event_memory", **shapes, supervision="weak")
    assert {sum(weight.numel() for weight in method.parameters()) for method in (full, weak)} == {4_857_429}
    assert [(method.config.slots, method.config.margin) for method in (full, weak)] == [(32, 0.7), (20, 0.9)]
    assert (full.config.recipe.learning_rate, full.config.recipe.schedule, full.config.recipe.batch_size) == (3e-4, "cosine", 128)
