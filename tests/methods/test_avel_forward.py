"""AVEL: size, losses, and its forward pass restated in NumPy, float64, one clip and one segment at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from restatement import AUDIO_SHAPE, CLASSES, LENGTHS, VISUAL_SHAPE, Restatement, clips, example, relu, scatter, softmax, video_loss

from pipeline.batch import Batch
from pipeline.methods import Progress, create


class Reference(Restatement):
    """One clip: (T, S, D_v), (T, D_a) -> segment logits (T, C+1), attention (T, S)."""

    def __call__(self, visual, audio, fusion):
        pooled, weights = zip(*(self.audio_guided("attention", v, a) for v, a in zip(visual, audio, strict=True)), strict=True)
        audio, visual = self.lstm("audio_lstm", audio), self.lstm("visual_lstm", np.stack(pooled))
        if fusion == "dmrn":
            merged = (self.residual("visual", visual) + self.residual("audio", audio)) / 2
            return self.linear("classifier", (np.tanh(audio + merged) + np.tanh(visual + merged)) / 2), np.stack(weights)
        hidden = relu(self.linear("classifier.0", relu(np.concatenate([audio, visual], axis=1))))
        return self.linear("classifier.2", hidden), np.stack(weights)

    def residual(self, modality, x):
        return self.linear(f"fusion.{modality}.2", np.tanh(self.linear(f"fusion.{modality}.0", x)))


def build(**config):
    torch.manual_seed(1)
    widths = {"attention_width": 5, "recurrent_width": 4, "classifier_width": 6}
    return scatter(create("avel", visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **widths, **config))


@pytest.mark.parametrize("fusion", ["concatenation", "dmrn"])
def test_forward_and_losses_equal_the_numpy_restatement(fusion):
    batch, targets, _ = example()
    paper, released = build(fusion=fusion), build(fusion=fusion, variant="released")
    scores, network = paper.predict(batch), Reference(paper)
    cross_entropies, soft_margins = [], []
    for clip, (length, features) in enumerate(zip(LENGTHS, clips(batch), strict=True)):
        logits, weights = network(*features, fusion)
        np.testing.assert_allclose(scores.segments[clip, :length].detach(), softmax(logits), atol=1e-10)
        np.testing.assert_allclose(scores.attention[clip, :length].detach(), weights, atol=1e-10)
        for t in range(length):
            truth = np.eye(CLASSES + 1)[targets.segments[clip, t]]
            cross_entropies.append(video_loss(logits[t], truth, "cross_entropy"))
            soft_margins.append(video_loss(logits[t], truth, "soft_margin"))
    assert paper.losses(batch, targets, Progress(0, 1))["total"].item() == pytest.approx(np.mean(cross_entropies), abs=1e-10)
    assert released.losses(batch, targets, Progress(0, 1))["total"].item() == pytest.approx(np.mean(soft_margins), abs=1e-10)


@pytest.mark.parametrize("fusion", ["concatenation", "dmrn"])
def test_weak_losses_equal_the_numpy_restatement(fusion):
    """Mean of the logits and cross-entropy (paper), or their maximum and the soft margin (released)."""
    batch, _, targets = example()
    paper, released = build(fusion=fusion, supervision="weak"), build(fusion=fusion, supervision="weak", variant="released")
    logits = [Reference(paper)(*features, fusion)[0] for features in clips(batch)]
    labels = targets.labels.numpy()
    averaged = [video_loss(of_clip.mean(axis=0), y, "cross_entropy") for of_clip, y in zip(logits, labels, strict=True)]
    largest = [video_loss(of_clip.max(axis=0), y, "soft_margin") for of_clip, y in zip(logits, labels, strict=True)]
    assert paper.losses(batch, targets, Progress(0, 1))["total"].item() == pytest.approx(np.mean(averaged), abs=1e-10)
    assert released.losses(batch, targets, Progress(0, 1))["total"].item() == pytest.approx(np.mean(largest), abs=1e-10)


def test_released_loss_is_torchs_own_and_nearly_flat():
    """From 0.709 for a uniform answer to 0.680 for a perfect one, at 29 labels."""
    uniform, perfect = torch.full((1, 29), 1 / 29), torch.eye(29)[:1]
    criterion = torch.nn.MultiLabelSoftMarginLoss()
    assert criterion(uniform, perfect).item() == pytest.approx(0.7094, abs=1e-4)
    assert criterion(perfect, perfect).item() == pytest.approx(0.6800, abs=1e-3)
    batch, targets, _ = example()
    whole = Batch(batch.visual, batch.audio, torch.ones_like(batch.mask))
    method = build(variant="released")
    probabilities = method.predict(whole).segments.flatten(0, 1)
    truth = torch.nn.functional.one_hot(targets.segments.flatten(), CLASSES + 1).double()
    torch.testing.assert_close(method.losses(whole, targets, Progress(0, 1))["total"], criterion(probabilities, truth))


@pytest.mark.parametrize("modality", ["audio_visual", "audio", "visual"])
def test_a_modality_alone_sees_only_itself(modality):
    batch, _, _ = example()
    method = build(modality=modality)
    before = method.predict(batch).segments
    visual = method.predict(Batch(batch.visual + 1, batch.audio, batch.mask)).segments
    audio = method.predict(Batch(batch.visual, batch.audio + 1, batch.mask)).segments
    assert (not torch.equal(before, visual)) == (modality != "audio")
    assert (not torch.equal(before, audio)) == (modality != "visual")


@pytest.mark.parametrize("supervision", ["full", "weak"])
@pytest.mark.parametrize(("fusion", "parameters"), [("concatenation", 1_335_246), ("dmrn", 1_571_150)])
def test_the_published_networks_size(fusion, parameters, supervision):
    shapes = {"visual_shape": (7, 7, 512), "audio_shape": (128,), "num_classes": 28}
    method = create("avel", **shapes, fusion=fusion, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
    recipe = method.config.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("adam", 1e-3, 64)
    assert recipe.epochs == (300 if supervision == "full" else 250)
    assert (recipe.milestones, recipe.iteration_milestones, recipe.iteration_decay) == ((), (15_000,), 0.1)


def test_the_residual_fusion_takes_two_modalities():
    with pytest.raises(ValidationError, match=r"fusion: dmrn.*modality: audio_visual"):
        build(fusion="dmrn", modality="audio")
