"""MGN: its size, its forward pass and losses restated in NumPy, float64, one clip at a time, and what its segments can say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from restatement import binary, scatter, sigmoid, softmax
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as HanReference

from pipeline.batch import Batch
from pipeline.errors import PipelineError
from pipeline.methods import Progress, create
from pipeline.methods.mgn.grouping import Grouped, Grouping
from pipeline.training.problems import problems

SETTINGS = {"width": 6, "heads": 2, "blocks": 2, "cross_blocks": 1, "mixer_width": 4, "segments": 5, "drop_path": 0.0}


def build(**more):
    torch.manual_seed(1)
    shapes = {"visual_shape": (2, 4), "audio_shape": (7,), "num_classes": CLASSES, "other_shapes": {"motion": (5,)}}
    return scatter(create("mgn", **shapes, **{**SETTINGS, **more}))


def gelu(x):
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


class Reference(HanReference):
    """One clip of n of 5 segments, from the spec's formulas; padded groups of seconds are kept as the zero rows that the mixer reads."""

    def mlp(self, name, x):
        return self.linear(f"{name}.3", gelu(self.linear(f"{name}.1", self.norm(f"{name}.0", x))))

    def block(self, name, x):
        y = self.norm(f"{name}.norm", x)
        x = x + self.multi_head(f"{name}.attention", y, y)
        return x + self.mlp(f"{name}.mlp", x)

    def with_tokens(self, kind, stream):
        x = np.concatenate([stream, self.state[f"{kind}_tokens"]])
        for number in range(2):
            x = self.block(f"{kind}_blocks.{number}", x)
        return x[: len(stream)], x[len(stream) :]

    def group(self, name, inputs, tokens, places, hard=False):
        """Vectors of the groups (G, D), and A (G, N); ``places`` is the number of tokens that the mixer is tied to."""
        normed = np.zeros((places, tokens.shape[1]))
        normed[: len(tokens)] = self.norm(f"{name}.token_norm", tokens)
        mixed = self.linear(f"{name}.mix_out", gelu(self.linear(f"{name}.mix_in", normed.T))).T[: len(tokens)]
        mixed, x = self.norm(f"{name}.mixed_norm", mixed), self.norm(f"{name}.input_norm", inputs)
        r = mixed + self.multi_head(f"{name}.attention", mixed, x)
        q = self.norm(f"{name}.group_norm", r + self.mlp(f"{name}.attended_mlp", r))
        a = softmax(self.linear(f"{name}.query", x) @ self.linear(f"{name}.key", q).T / math.sqrt(x.shape[1])).T
        taken = np.eye(len(tokens))[a.argmax(axis=0)].T if hard else a
        out = q + self.linear(f"{name}.output", taken / (taken.sum(axis=1, keepdims=True) + 1) @ self.linear(f"{name}.value", x))
        return out + self.mlp(f"{name}.mlp", out), a

    def __call__(self, visual, audio, motion):
        """W^a, W^v (T, C) as released, A^a, A^v (C, T), P^a, P^v, P (C,)."""
        sound, picture = self.tracks(visual, audio, motion)
        segments, tokens = self.with_tokens("visual", picture)
        seen, of_picture = self.group("visual_grouping", segments, tokens, CLASSES)
        segments, tokens = self.with_tokens("audio", sound)
        seconds, _ = self.group("by_seconds", segments, picture, 5, hard=True)
        heard, of_sound = self.group("audio_grouping", seconds, tokens, CLASSES)
        x = self.block("cross_blocks.0", np.concatenate([heard, seen]))
        either, _ = self.group("cross_grouping", x[:CLASSES], x[CLASSES:], CLASSES)
        clips = [
            sigmoid(self.linear(name, groups))[:, 0] for name, groups in (("audio_score", heard), ("visual_score", seen), ("score", either))
        ]
        return [1 + softmax(a).T for a in (of_sound, of_picture)], (of_sound, of_picture), *clips


@pytest.mark.parametrize("variant", ["released", "attention"])
def test_answers_and_losses_equal_the_numpy_restatement(variant):
    batch, targets = example()
    method = build(variant=variant).eval()
    reference, scores, terms = Reference(method), method.predict(batch), {"audio": [], "visual": [], "clip": []}
    for n, length in enumerate(LENGTHS):
        streams = (batch.visual, batch.audio, batch.others["motion"])
        weights, assigned, audio, visual, whole = reference(*(stream[n, :length].numpy() for stream in streams))
        if variant == "attention":
            weights = [(a / a.max(axis=1, keepdims=True)).T for a in assigned]
        for name, clip, weight in (("audio", audio, weights[0]), ("visual", visual, weights[1])):
            np.testing.assert_allclose(getattr(scores, name)[n, :length].detach(), np.minimum(clip * weight, 1), atol=1e-10)
        np.testing.assert_allclose(scores.clip_visual[n].detach(), whole, atol=1e-10)
        for c in range(CLASSES):
            y = targets.labels[n, c].item()
            terms["audio"].append(binary(audio[c], y))
            terms["visual"].append(binary(visual[c], 0.9 * y + 0.05))
            terms["clip"].append(binary(whole[c], y))
    expected = {name: np.mean(values) for name, values in terms.items()}
    for kind in ("audio", "visual"):
        of_tokens = softmax(reference.linear("token_classifier", reference.state[f"{kind}_tokens"]))
        expected[f"{kind}_tokens"] = -np.log(of_tokens.diagonal()).mean()
    losses = method.losses(batch, targets, Progress(0, 1))
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx({**expected, "total": sum(expected.values())}, abs=1e-9)


def test_the_released_size_and_start():
    method = create("mgn", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, other_shapes={"motion": (512,)})
    assert sum(weight.numel() for weight in method.parameters()) == 4_366_065
    assert not method.audio_tokens.any()
    matrices = [weight for name, weight in method.named_parameters() if weight.ndim == 2 and "tokens" not in name]
    assert torch.cat([weight.flatten() for weight in matrices]).std().item() == pytest.approx(0.02, rel=0.01)
    assert not any(weight.any() for name, weight in method.named_parameters() if name.endswith("bias"))


def test_as_released_all_segments_of_a_class_are_on_or_off_together():
    """Whatever the assignment: times 1.039 to 1.232 in ten seconds."""
    method = build(segments=10)
    mask = torch.ones(1, 10, dtype=torch.bool)
    extremes = torch.zeros(1, CLASSES, 10, dtype=torch.float64)
    extremes[0, 0, 3] = 1
    extremes[0, 1] = 1 - extremes[0, 0]
    for clip, on in ((0.4815, True), (0.4055, False)):
        said = method._segments(torch.full((1, CLASSES), clip, dtype=torch.float64), Grouped(torch.empty(0), extremes), mask) / clip
        assert said.min().item() == pytest.approx(1 + 1 / (1 + 9 * math.e))
        assert said.max().item() == pytest.approx(1 + math.e / (math.e + 9))
        assert ((clip * said >= 0.5) == on).all()


def test_hard_assignment_is_noisy_in_training_alone_and_has_the_gradient_of_the_soft_one():
    torch.manual_seed(0)
    grouping = Grouping(6, 2, 4, 3, hard=True)
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0]).log_softmax(0)[None, :, None].expand(1, -1, 20_000)
    shares = grouping.train()._hard(scores).mean(dim=2)[0]
    torch.testing.assert_close(shares, scores[0, :, 0].exp(), atol=0.02, rtol=0)
    scores = scores[:, :, :1].clone().requires_grad_()
    hard, soft = (torch.autograd.grad(taken[0, 1, 0], scores)[0] for taken in (grouping.eval()._hard(scores), scores.softmax(dim=1)))
    assert grouping._hard(scores).flatten().tolist() == pytest.approx([1, 0, 0, 0])
    torch.testing.assert_close(hard, soft)


def test_another_number_of_segments_is_refused():
    """By the network, and before any work."""
    batch, _ = example()
    shorter = Batch(*(stream[:, :4] for stream in (batch.visual, batch.audio, batch.mask)), {"motion": batch.others["motion"][:, :4]})
    with pytest.raises(PipelineError, match=r"MGN .* built for 5 of them, not 4; .*`segments`"):
        build().predict(shorter)
    run = {"task": "avvp", "method": "mgn", "features": "made"}
    params = {"features": {"made": {}}, "methods": {"mgn": {"motion": None}}, "runs": {"grouped": run}}
    assert problems({**params, "dataset": {"segments": 10}}) == []
    assert problems({**params, "dataset": {"segments": 12}}) == [
        "runs.grouped: mgn is built for clips of 10 segments, and dataset.segments is 12; set methods.mgn.segments to 12"
    ]
