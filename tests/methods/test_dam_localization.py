"""DAM-style localization: what is gathered, and network and losses restated in NumPy, float64, clip by clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
from restatement import CLASSES, LENGTHS, Restatement, assert_near, binary, clips, example, relu, sigmoid, small, softmax

from pipeline.methods import Progress, create
from pipeline.tasks import avel

WIDTHS = {"attention_width": 5, "width": 8, "heads": 2, "dropout": 0.0}
EVENTS = [[0, 1, 1, 1, 0], [1, 1, 0], [0]]


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> by pass p (T,), class logits, attention; ``truth``: the segments to gather first."""

    def local(self, kind, x):
        return self.linear(f"{kind}.local.2", relu(self.linear(f"{kind}.local.0", x)))

    def gathered(self, name, x):
        return self.norm(f"{name}.norm", x + self.multi_head(f"{name}.attention", x, x)).mean(axis=0)

    def __call__(self, visual, audio, gather, truth):
        pooled, weights = zip(*(self.audio_guided("attention", v, a) for v, a in zip(visual, audio, strict=True)), strict=True)
        v, a = self.local("visual", np.stack(pooled)), self.local("audio", audio)

        def matched(chosen):
            asked, seen = self.gathered("audio.event", a[chosen]), self.gathered("visual.event", v[chosen])
            return (sigmoid(v @ asked / math.sqrt(8)) + sigmoid(a @ seen / math.sqrt(8))) / 2

        every = np.ones(len(v), bool)
        passes = [matched(truth if truth is not None and truth.any() else every)]
        if gather == "two_pass":
            likely = passes[0] >= 0.5
            passes.append(matched(likely if likely.any() else every))
        clip = np.concatenate([self.gathered("visual_clip", v), self.gathered("audio_clip", a)])
        return passes, self.linear("class_head", clip), np.stack(weights)


@pytest.mark.parametrize("gather", ["two_pass", "all", "truth"])
def test_forward_and_losses_equal_the_numpy_restatement(gather):
    batch, targets, _ = example()
    method = small("dam_localization", **WIDTHS, gather=gather, class_weight=0.3)
    scores, terms = method.predict(batch), method.losses(batch, targets, Progress(0, 1))
    network, entropies, chosen = Reference(method), [], set()
    classes = []
    for clip, features in enumerate(clips(batch)):
        passes, logits, weights = network(*features, gather, None)
        length, bits = LENGTHS[clip], np.array(EVENTS[clip], bool)
        assert_near(scores.event[clip, :length], passes[-1], 1e-10)
        assert_near(scores.classes[clip], softmax(logits), 1e-10)
        assert_near(scores.attention[clip, :length], weights, 1e-10)
        chosen.add(bool((passes[0] >= 0.5).all() or not (passes[0] >= 0.5).any()))
        trained = network(*features, gather, bits if gather == "truth" else None)[0]
        entropies.append([[binary(p, bit) for p, bit in zip(one, bits, strict=True)] for one in trained])
        classes.append(-np.log(softmax(logits)[[1, 0, 0][clip]]))
    assert chosen == {True, False}  # a clip of which some segments are gathered, and one of which all are
    event = np.mean([np.mean([x for clip in entropies for x in clip[number]]) for number in range(len(entropies[0]))])
    wanted = {"event": event, "class": np.mean(classes[:2]), "total": 0.7 * event + 0.3 * np.mean(classes[:2])}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)


def test_the_decision_is_that_of_two_heads():
    batch = example()[0]
    scores = small("dam_localization", **WIDTHS).predict(batch)
    decided = avel.decide(scores, batch.mask)
    event = scores.event > 0.5
    assert ((decided < CLASSES) == event)[batch.mask].all()


def test_parameters():
    method = create("dam_localization", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28)
    assert sum(parameter.numel() for parameter in method.parameters()) == 1_743_949
