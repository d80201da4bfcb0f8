"""CMRAN: sizes, recipes, and its forward pass and losses restated in NumPy, float64, clip by clip, from the spec's formulas."""

from __future__ import annotations

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

WIDTHS = {"visual_hidden": 6, "width": 8, "heads": 2, "interaction_heads": 4, "feedforward": 7, "input_dropout": 0.0, "dropout": 0.0}


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> event logits (T,), class logits (K,), attention (T, S)."""

    def __call__(self, visual, audio):
        maps = relu(self.linear("visual_input.0", visual))
        pairs = [self.channel_spatial("attention", positions, positions, a) for positions, a in zip(maps, audio, strict=True)]
        attended, weights = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        visual_memory, audio_memory = self.intra("relation.visual_intra", attended), self.intra("relation.audio_intra", audio)
        visual_query = self.cross("relation.visual_cross", attended, audio_memory)
        audio_query = self.cross("relation.audio_cross", audio, visual_memory)
        fused = self.interaction("interaction", visual_query, audio_query, heads=4)
        return self.linear("event_head", fused)[:, 0], self.linear("class_head", fused.max(axis=0)), weights


def build(**config):
    torch.manual_seed(1)
    return scatter(create("cmran", visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **WIDTHS, **config))


def test_supervised_forward_and_losses_equal_the_numpy_restatement():
    batch, targets, _ = example()
    method = build()
    scores, terms = method.predict(batch), method.losses(batch, targets, Progress(0, 1))
    events, classes = [], []
    for clip, features in enumerate(clips(batch)):
        event, class_logits, weights = Reference(method)(*features)
        length = LENGTHS[clip]
        np.testing.assert_allclose(scores.event[clip, :length].detach(), sigmoid(event), atol=1e-10)
        np.testing.assert_allclose(scores.classes[clip].detach(), softmax(class_logits), atol=1e-10)
        np.testing.assert_allclose(scores.attention[clip, :length].detach(), weights, atol=1e-10)
        joint = np.outer(sigmoid(event), softmax(class_logits))
        np.testing.assert_allclose(scores.segments[clip, :length].detach(), np.c_[joint, 1 - sigmoid(event)], atol=1e-10)
        events += [binary(sigmoid(e), int(label) < CLASSES) for e, label in zip(event, targets.segments[clip], strict=False)]
        classes.append(-np.log(softmax(class_logits)[[1, 0, 0][clip]]))  # the clip without an event counts as class 0
    wanted = {"event": np.mean(events), "class": np.mean(classes), "total": np.mean(events) + np.mean(classes)}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("form", ["cross_entropy", "soft_margin"])
def test_weak_forward_and_losses_equal_the_numpy_restatement(form):
    batch, _, targets = example()
    method = build(supervision="weak", video_loss=form)
    scores, terms = method.predict(batch), method.losses(batch, targets, Progress(0, 1))
    losses = []
    for clip, features in enumerate(clips(batch)):
        event, clip_logits, _ = Reference(method)(*features)
        length, classes = LENGTHS[clip], softmax(clip_logits)
        np.testing.assert_allclose(scores.event[clip, :length].detach(), sigmoid(event), atol=1e-10)
        np.testing.assert_allclose(scores.classes[clip].detach(), classes, atol=1e-10)
        joint = np.outer(sigmoid(event), classes)
        background = 1 - sigmoid(event) * (1 - classes[CLASSES])
        np.testing.assert_allclose(scores.segments[clip, :length].detach(), np.c_[joint[:, :CLASSES], background], atol=1e-10)
        pooled = np.array([max(gate * logit for gate in sigmoid(event)) for logit in clip_logits])
        losses.append(video_loss(pooled, targets.labels[clip].numpy(), form))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        dict.fromkeys(("video", "total"), np.mean(losses)), abs=1e-10
    )


@pytest.mark.parametrize(("supervision", "parameters"), [("full", 9_509_150), ("weak", 9_509_407)])
def test_live_parameters_and_recipe_of_the_published_network(supervision, parameters):
    """Released: 15,863,262 and 15,863,519, less 6,354,112 that are never called."""
    method = create("cmran", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
    recipe = method.config.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.epochs, recipe.decay) == ("adam", 5e-4, 32, 200, 0.5)
    assert (recipe.milestones, recipe.clip_norm) == (((10, 20, 30), 0.1) if supervision == "full" else ((5, 20, 40), 0.5))
    assert method.config.interaction_heads == (4 if supervision == "full" else 2)


@pytest.mark.parametrize("name", ["heads", "interaction_heads"])
def test_heads_must_divide_the_width(name):
    with pytest.raises(ValidationError, match=rf"width \(8\).*{name} \(3\)"):
        create("cmran", visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **{**WIDTHS, name: 3})
