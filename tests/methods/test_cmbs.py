"""CMBS: sizes, recipes, both evaluations, and forward pass and losses restated in NumPy, float64, clip by clip, from the formulas."""

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
from pipeline.tasks import avel as task

ALPHA, BETA, GAMMA, TOP_K = 0.15, 0.45, 0.35, 2
WIDTHS = {
    "visual_hidden": 6, "audio_hidden": 5, "attention_width": 3, "width": 8, "heads": 2, "interaction_heads": 4, "intra_feedforward": 7,
    "cross_feedforward": 9, "alpha": ALPHA, "beta": BETA, "gamma": GAMMA, "top_k": TOP_K,
    "input_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.0, "interaction_dropout": 0.0,
}  # fmt: skip


def top_mean(scores):
    return np.sort(scores, axis=0)[::-1][:TOP_K].mean(axis=0)


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a)."""

    def guided(self, positions, audio):
        refined = self.norm("guidance.residual.norm", positions + self.single_head("guidance.attention", positions, positions))
        return self.calibrated(positions, refined, audio, BETA)

    def related(self, visual, audio, recurrent):
        maps = relu(self.linear("visual_input.0", visual))
        pairs = [self.guided(positions, a) for positions, a in zip(maps, audio, strict=True)]
        guided, weights = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        if recurrent:
            guided, audio = self.lstm("visual_lstm", guided), self.lstm("audio_lstm", audio)
        visual_memory, audio_memory = self.intra("relation.visual_intra", guided), self.intra("relation.audio_intra", audio)
        visual_query = self.cross("relation.visual_cross", guided, audio_memory)
        audio_query = self.cross("relation.audio_cross", audio, visual_memory)
        return visual_query, audio_query, visual_memory, audio_memory, weights

    def fused(self, name, visual, audio):
        first = self.interaction(f"{name}.visual", visual, audio, heads=4)
        return (first + self.interaction(f"{name}.audio", audio, first, heads=4)) / 2

    def supervised(self, visual, audio):
        visual, audio, visual_memory, audio_memory, weights = self.related(visual, audio, recurrent=True)
        audio_gate = sigmoid(self.linear("suppression.audio_gate", audio_memory))
        visual_gate = sigmoid(self.linear("suppression.visual_gate", visual_memory))
        visual, audio = visual * (1 + ALPHA * audio_gate), audio * (1 + ALPHA * visual_gate)
        modality = self.linear("suppression.visual_scores", visual), self.linear("suppression.audio_scores", audio)
        av = (top_mean(modality[0]) + top_mean(modality[1])) / 2
        fused = self.fused("suppression.interaction", visual, audio)
        event = sigmoid(self.linear("event_head", fused))[:, 0]
        return event, self.linear("class_head", fused.max(axis=0)) + GAMMA * av, (audio_gate * visual_gate)[:, 0], av, weights

    def weak(self, visual, audio):
        """G (T,) and r (K,): each modality is scaled by the gate of its own memory."""
        visual, audio, visual_memory, audio_memory, _ = self.related(visual, audio, recurrent=False)
        from_visual = sigmoid(self.linear("weak_head.visual_gate", visual_memory))
        from_audio = sigmoid(self.linear("weak_head.audio_gate", audio_memory))
        visual = (1 - ALPHA) * visual + ALPHA * from_visual * visual
        audio = (1 - ALPHA) * audio + ALPHA * from_audio * audio
        scores = sigmoid(self.linear("weak_head.visual_scores", visual)) + sigmoid(self.linear("weak_head.audio_scores", audio))
        activations = self.linear("weak_head.activations", self.fused("weak_head.interaction", visual, audio))
        return (from_visual + from_audio)[:, 0] / 2, top_mean(GAMMA * scores * activations)


def build(**config):
    torch.manual_seed(1)
    return scatter(create("cmbs", visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **WIDTHS, **config))


@pytest.mark.parametrize("gate_loss", ["faithful", "corrected"])
def test_supervised_forward_and_losses_equal_the_numpy_restatement(gate_loss):
    batch, targets, _ = example()
    method = build(gate_loss=gate_loss)
    scores, terms = method.predict(batch), method.losses(batch, targets, Progress(0, 1))
    events, classes, gates, modalities = [], [], [], []
    for clip, features in enumerate(clips(batch)):
        event, class_logits, gate, av, weights = Reference(method).supervised(*features)
        length = LENGTHS[clip]
        np.testing.assert_allclose(scores.event[clip, :length].detach(), event, atol=1e-10)
        np.testing.assert_allclose(scores.classes[clip].detach(), softmax(class_logits), atol=1e-10)
        np.testing.assert_allclose(scores.attention[clip, :length].detach(), weights, atol=1e-10)
        truth = [int(label) < CLASSES for label in targets.segments[clip, :length]]
        events += [binary(e, y) for e, y in zip(event, truth, strict=True)]
        opened = sigmoid(gate) if gate_loss == "faithful" else gate
        gates += [binary(g, y) for g, y in zip(opened, truth, strict=True)]
        label = [1, 0, 0][clip]  # the clip without an event counts as class 0
        classes.append(-np.log(softmax(class_logits)[label]))
        modalities.append(-np.log(softmax(av)[label]))
    wanted = {"event": np.mean(events), "class": np.mean(classes), "gate": np.mean(gates), "modality_class": np.mean(modalities)}
    wanted["total"] = sum(wanted.values())
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("form", ["cross_entropy", "soft_margin"])
def test_weak_forward_and_losses_equal_the_numpy_restatement(form):
    batch, _, targets = example()
    method = build(supervision="weak", video_loss=form)
    scores, terms = method.predict(batch), method.losses(batch, targets, Progress(0, 1))
    losses = []
    for clip, features in enumerate(clips(batch)):
        gate, clip_logits = Reference(method).weak(*features)
        np.testing.assert_allclose(scores.event[clip, : LENGTHS[clip]].detach(), gate, atol=1e-10)
        np.testing.assert_allclose(scores.classes[clip].detach(), softmax(clip_logits), atol=1e-10)
        pooled = np.array([max(g * logit for g in gate) for logit in clip_logits])
        losses.append(video_loss(pooled, targets.labels[clip].numpy(), form))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        dict.fromkeys(("video", "total"), np.mean(losses)), abs=1e-10
    )


def test_the_published_weak_evaluation_gives_every_segment_the_clips_label():
    """The corrected evaluation takes the gate as a probability and answers background where it is closed."""
    batch, _, _ = example()
    batch.mask[:] = True
    corrected, published = build(supervision="weak"), build(supervision="weak", weak_evaluation="published")
    with torch.no_grad():
        corrected.weak_head.visual_gate.bias -= 1
    published.load_state_dict(corrected.state_dict())
    with torch.no_grad():
        scores, constant = corrected.predict(batch), published.predict(batch)
    torch.testing.assert_close(constant.event, scores.event.sigmoid())
    torch.testing.assert_close(constant.classes, scores.classes)
    labels = task.decide(constant, batch.mask)
    assert torch.equal(labels, constant.classes.argmax(dim=-1, keepdim=True).expand(3, 5))
    differs = task.decide(scores, batch.mask) != labels
    assert torch.equal(differs, (scores.event <= 0.5) & (labels < CLASSES))
    assert differs.any()


@pytest.mark.parametrize(("supervision", "parameters"), [("full", 9_200_473), ("weak", 9_395_518)])
def test_live_parameters_and_recipe_of_the_published_network(supervision, parameters):
    """Released: 13,544,537 less 4,344,064 that are never called; weak 14,789,439 less 5,393,921."""
    method = create("cmbs", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
    config, recipe = method.config, method.config.recipe
    assert (recipe.optimizer, recipe.batch_size, recipe.epochs, recipe.decay, recipe.clip_norm) == ("adam", 64, 200, 0.5, 0.5)
    published = (7e-4, (10, 20, 30), 0.1, 0.4, 0.3, 4) if supervision == "full" else (6e-4, (10, 20, 40), 0.2, 0.5, 0.5, 2)
    assert (recipe.learning_rate, recipe.milestones, config.alpha, config.beta, config.gamma, config.interaction_heads) == published


@pytest.mark.parametrize(
    ("setting", "message"), [({"interaction_heads": 3}, "interaction_heads"), ({"visual_hidden": 7}, "visual_hidden.*even")]
)
def test_settings_that_do_not_fit_together(setting, message):
    with pytest.raises(ValidationError, match=message):
        create("cmbs", visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **{**WIDTHS, **setting})
