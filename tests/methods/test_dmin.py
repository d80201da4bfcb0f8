"""DMIN: sizes, recipes, its dense attention beside the loop over shifts, and network and losses restated in NumPy, float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from restatement import CLASSES, LENGTHS, Restatement, assert_two_heads, binary, clips, example, relu, sigmoid, small, softmax, video_loss

from pipeline.batch import Batch
from pipeline.methods import Progress, create
from pipeline.methods.dmin.dense_relation import dense_logits
from pipeline.methods.dmin.position_attention import BilinearMatch
from pipeline.tasks.cml import MatchingTargets

WIDTHS = {
    "visual_hidden": 6, "width": 8, "heads": 2, "interaction_heads": 4, "feedforward": 7, "factors": 3, "input_dropout": 0.0,
    "dropout": 0.0, "match_dropout": 0.0, "cross_dropout": 0.0,
}  # fmt: skip


def over_shifts(query, key):
    """The released loop: the query as it is weighs 1/2, its other cyclic shifts share 1/2; divided by the number of channels."""
    width = len(query)
    shares = [0.5] + [0.5 / (width - 1)] * (width - 1)
    return sum(share * (np.roll(query, shift) @ key) for shift, share in enumerate(shares)) / width


def test_the_closed_form_equals_the_loop_over_all_shifts():
    query, key = np.random.default_rng(0).standard_normal((2, 5, 64))
    wanted = [[over_shifts(q, k) for k in key] for q in query]
    np.testing.assert_allclose(dense_logits(torch.tensor(query), torch.tensor(key)), wanted, atol=1e-15)


class Dense(Restatement):
    def dense_cross(self, name, x, memory):
        """CMRA with the dense logits for the memory's keys."""
        x = self.linear(f"{name}.project", x)
        keys = np.concatenate([memory, x])
        weights, biases = (np.split(self.state[f"{name}.attention.in_proj_{kind}"], 3) for kind in ("weight", "bias"))
        q, k, v = (source @ weight.T + bias for source, weight, bias in zip((x, keys, keys), weights, biases, strict=True))
        size, attended = q.shape[1] // self.heads, []
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            scaled = q[:, part] / math.sqrt(size)
            logits = [[over_shifts(a, b) for b in k[: len(memory), part]] + [a @ b for b in k[len(memory) :, part]] for a in scaled]
            attended.append(softmax(np.array(logits)) @ v[:, part])
        x = self.norm(f"{name}.attention_norm", x + self.linear(f"{name}.attention.out_proj", np.concatenate(attended, axis=1)))
        hidden = relu(self.linear(f"{name}.feedforward.0", x))
        return self.norm(f"{name}.feedforward_norm", x + self.linear(f"{name}.feedforward.3", hidden))

    def related(self, prefix, visual, audio):
        """Visual and audio after the relation across, and the visual memory."""
        visual_memory, audio_memory = self.intra(f"{prefix}.visual_intra", visual), self.intra(f"{prefix}.audio_intra", audio)
        return (
            self.dense_cross(f"{prefix}.visual_cross", visual, audio_memory),
            self.dense_cross(f"{prefix}.audio_cross", audio, visual_memory),
            visual_memory,
        )


class Reference(Dense):
    """One clip: (T, S, D_v), (T, D_a) -> event, classes, attention, class logits of the visual memory, its event logits (weak)."""

    def __call__(self, visual, audio):
        maps, gated = relu(self.linear("visual_input.0", visual)), []
        for positions, a in zip(maps, audio, strict=True):
            query = relu(self.linear("channel_gate.audio_query", a)) * relu(self.linear("channel_gate.visual_query", positions))
            gate = sigmoid(self.linear("channel_gate.up", relu(self.linear("channel_gate.down", query.mean(axis=0)))))
            gated.append(positions * (1 + gate))
        guide = relu(self.linear("attention.audio", audio))
        along = []
        for n in range(visual.shape[1]):
            own = relu(self.linear("attention.position", np.stack([x[n] for x in gated])))
            first = self.lstm("attention.lstm", np.concatenate([own + guide, guide], axis=1))
            along.append(self.lstm("attention.lstm", first, layer=1))
        attended, weights = [], []
        for t, (positions, a) in enumerate(zip(gated, audio, strict=True)):
            match = np.stack([self.match(x, a) for x in positions])
            score = self.linear("attention.score", match + np.stack([steps[t] for steps in along]))[:, 0]
            weights.append(softmax(np.tanh(score)))
            attended.append(weights[-1] @ positions)
        visual, audio, memory = self.related("relation", np.stack(attended), audio)
        fused = self.interaction("interaction", visual, audio, heads=4)
        twin_event = self.linear("visual_event_head", memory)[:, 0] if "visual_event_head.weight" in self.state else None
        twin = self.linear("visual_class_head", memory.max(axis=0))
        return self.linear("event_head", fused)[:, 0], self.linear("class_head", fused.max(axis=0)), np.stack(weights), twin, twin_event

    def match(self, position, audio):
        name = "attention.match"
        product = relu(self.linear(f"{name}.position", position)) * relu(self.linear(f"{name}.audio", audio))
        root = np.array([math.sqrt(sum(product[3 * c : 3 * c + 3])) for c in range(8)])
        return root / np.linalg.norm(root)


@pytest.mark.parametrize("supervision", ["full", "weak"])
def test_forward_and_losses_equal_the_numpy_restatement(supervision):
    method = small("dmin", **WIDTHS, supervision=supervision)
    share = 0.1 if supervision == "full" else 0.08

    def extra(said, wanted):
        if supervision == "full":
            visual = np.mean([-np.log(softmax(clip[3])[label]) for clip, label in zip(said, (1, 0, 0), strict=True)])
            return {"visual_class": visual, "total": wanted["event"] + (1 - share) * wanted["class"] + share * visual}
        labels = example()[2].labels.numpy()
        pooled = [np.array([max(sigmoid(e) * logit for e in event) for logit in classes]) for *_, classes, event in said]
        visual = np.mean([video_loss(logits, y, "cross_entropy") for logits, y in zip(pooled, labels, strict=True)])
        return {"visual_video": visual, "total": (1 - share) * wanted["video"] + share * visual}

    assert_two_heads(method, Reference(method), extra)


def test_a_match_of_nothing_has_a_finite_gradient():
    """The slope of a root is infinite at 0, where every sum of a silent segment lies."""
    match = BilinearMatch(4, 3, 2, 2, 0.0)
    for layer in (match.position, match.audio):
        torch.nn.init.zeros_(layer.bias)
    match(torch.randn(1, 2, 5, 4), torch.zeros(1, 2, 3)).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in match.parameters())


@pytest.mark.parametrize(("supervision", "parameters"), [("full", 11_390_778), ("weak", 11_391_549)])
def test_live_parameters_and_recipe_of_the_published_network(supervision, parameters):
    """Released: 17,744,890 and 17,745,661, less 6,354,112 that are never called."""
    method = create("dmin", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
    config, recipe = method.config, method.config.recipe
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs, recipe.decay) == (5e-4, 32, 200, 0.5)
    assert (recipe.milestones, recipe.clip_norm) == (((10, 20, 30), 0.1) if supervision == "full" else ((5, 20, 40), 0.5))
    assert (config.interaction_heads, config.cross_dropout) == ((4, 0.02) if supervision == "full" else (2, 0.1))


def test_a_head_of_one_channel_has_nothing_to_shift():
    with pytest.raises(ValidationError, match=r"width \(8\).*heads \(8\)"):
        small("dmin", **{**WIDTHS, "heads": 8, "interaction_heads": 8})


# Cross-modality localization
MATCHING = {"width": 8, "heads": 2, "feedforward": 7, "dropout": 0.0, "cross_dropout": 0.0}
EVENTS = [[0, 1, 1, 1, 0], [1, 1, 0], [0]]
OTHER = {"audio": "visual", "visual": "audio"}
NETWORK = {"audio": "audio_to_visual", "visual": "visual_to_audio"}


class MatchingReference(Dense):
    """One clip and one given window at a time; what is not given is cut away, not masked."""

    def pairs(self, streams, given, window, settings):
        """(given segment, its scalar) of the window, u_p of every searched segment, b."""
        name = NETWORK[given]
        known = dict(streams)
        if settings["given"] == "window":
            known[given] = streams[given][window]
        visual, audio = known["visual"], known["audio"]
        visual, audio, _ = self.related(f"{name}.relation", visual, audio)
        found = {"visual": visual, "audio": audio}
        scalars = found[given].mean(axis=1)
        scalars = scalars if settings["given"] == "window" else scalars[window]
        return scalars, found[OTHER[given]] @ self.state[f"{name}.head.weight"][0], self.state[f"{name}.head.bias"][0]

    def logits(self, streams, given, window, settings):
        """By window's start: the logits of its segments."""
        scalars, searched, bias = self.pairs(streams, given, window, settings)
        starts = range(len(searched) - len(scalars) + 1)
        if settings["overlap"] == "separate":
            return [np.array([s * searched[start + i] + bias for i, s in enumerate(scalars)]) for start in starts]
        searched = searched.copy()
        for start in starts:
            searched[start : start + len(scalars)] *= scalars
        return [searched[start : start + len(scalars)] + bias for start in starts], searched + bias


@pytest.mark.parametrize("overlap", ["separate", "repeated"])
@pytest.mark.parametrize("given", ["window", "whole"])
def test_matching_equals_the_numpy_restatement(given, overlap):
    settings = {"given": given, "overlap": overlap}
    method = small("dmin_matching", **MATCHING, **settings)
    network, batch = MatchingReference(method), example()[0]
    streams = [{"visual": visual.mean(axis=1), "audio": audio} for visual, audio in clips(batch)]
    scores = method.predict(batch)
    for direction, table in (("audio", scores.audio_to_visual), ("visual", scores.visual_to_audio)):
        for clip, segments in enumerate(LENGTHS):
            for length in range(1, segments + 1):
                for question in range(segments - length + 1):
                    said = network.logits(streams[clip], direction, np.arange(question, question + length), settings)
                    said = said if overlap == "separate" else said[0]
                    found = table[clip, length - 1, question, : segments - length + 1].detach()
                    np.testing.assert_allclose(found, [logits.sum() for logits in said], atol=1e-9)
    terms = {}
    for name, direction in (("a2v", "audio"), ("v2a", "visual")):
        losses = []
        for clip in (0, 1):  # the clip without an event has nothing to match
            event = np.array(EVENTS[clip])
            said = network.logits(streams[clip], direction, event.nonzero()[0], settings)
            if overlap == "repeated":
                losses += [binary(sigmoid(x), bit) for x, bit in zip(said[1], event, strict=True)]
            else:
                losses += [binary(sigmoid(x), event[start + i]) for start, row in enumerate(said) for i, x in enumerate(row)]
        terms[name] = np.mean(losses)
    truth = torch.zeros(3, 5, dtype=torch.bool)
    for clip, bits in enumerate(EVENTS):
        truth[clip, : len(bits)] = torch.tensor(bits, dtype=torch.bool)
    found = method.losses(batch, MatchingTargets(truth, torch.zeros(3, CLASSES)), Progress(0, 1))
    assert {name: term.item() for name, term in found.items()} == pytest.approx({**terms, "total": sum(terms.values())}, abs=1e-9)


def test_whole_as_released_knows_the_given_modality_outside_its_window():
    batch = example()[0]
    other = batch.audio.clone()
    other[0, 4] += 1
    moved = {}
    for given in ("window", "whole"):
        method = small("dmin_matching", **MATCHING, given=given).eval()
        first, second = (
            method.predict(Batch(batch.visual, audio, batch.mask)).audio_to_visual[0, 1, 1, :4] for audio in (batch.audio, other)
        )
        moved[given] = not torch.allclose(first, second)
    assert moved == {"window": False, "whole": True}


def test_parameters_of_both_directions():
    method = create("dmin_matching", visual_shape=(512,), audio_shape=(128,), num_classes=28)
    assert sum(parameter.numel() for parameter in method.parameters()) == 16_438_786
