"""PSP: sizes, recipes, labels, and its forward pass and losses restated in NumPy, float64, clip by clip, from the spec's formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from propagation_restatement import Propagating, cosines
from restatement import (
    AUDIO_SHAPE,
    CLASSES,
    LENGTHS,
    VISUAL_SHAPE,
    clips,
    example,
    relu,
    scatter,
    softmax,
    video_loss,
)

from pipeline.layers.propagation import pair_similarity_loss
from pipeline.methods import Progress, create
from pipeline.methods.psp import PspConfig

WEIGHT, THRESHOLD = 17.0, 0.15  # so that of 5 segments some connections are cut and some are not
WIDTHS = {
    "attention_width": 5, "input_width": 6, "input_hidden": 7, "recurrent_width": 4, "classifier_width": 6, "dropout": 0.0,
    "pair_weight": WEIGHT, "threshold": THRESHOLD,
}  # fmt: skip


class Reference(Propagating):
    """One clip: (T, S, D_v), (T, D_a) -> segment logits (T, C+1), cosine similarities (T,), attention (T, S)."""

    def __call__(self, visual, audio, refined):
        v, a, weights = self.body(visual, audio, refined=refined)
        return self.segment_logits((v + a) / 2), cosines(v, a), weights


def build(**config):
    torch.manual_seed(1)
    return scatter(create("psp", visual_shape=VISUAL_SHAPE, audio_shape=AUDIO_SHAPE, num_classes=CLASSES, **WIDTHS, **config), limit=0.9)


def test_supervised_forward_and_losses_equal_the_numpy_restatement():
    batch, targets, _ = example()
    method = build()
    scores, terms = method.predict(batch), method.losses(batch, targets, Progress(0, 1))
    network = Reference(method, THRESHOLD)
    entropies, squares = [], []
    for clip, features in enumerate(clips(batch)):
        logits, cosines, weights = network(*features, refined=True)
        length, labels = LENGTHS[clip], targets.segments[clip].tolist()
        np.testing.assert_allclose(scores.segments[clip, :length].detach(), softmax(logits), atol=1e-10)
        np.testing.assert_allclose(scores.attention[clip, :length].detach(), weights, atol=1e-10)
        entropies += [-np.log(softmax(row)[label]) for row, label in zip(logits, labels, strict=False)]
        shares = relu(cosines) / (relu(cosines).sum() + 1e-8)
        event = np.array([label < CLASSES for label in labels[:length]])
        soft = event / event.sum() if event.any() else np.full(length, 1 / length)
        squares += list((shares - soft) ** 2)
    assert network.cut > 0  # otherwise the threshold had no effect
    assert network.kept > 0
    wanted = {"segments": np.mean(entropies), "pair": np.mean(squares), "total": np.mean(entropies) + WEIGHT * np.mean(squares)}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, abs=1e-10)


def test_weak_forward_and_losses_equal_the_numpy_restatement():
    batch, _, targets = example()
    method = build(supervision="weak")
    scores, terms = method.predict(batch), method.losses(batch, targets, Progress(0, 1))
    network, losses = Reference(method, THRESHOLD), []
    for clip, features in enumerate(clips(batch)):
        logits, _, _ = network(*features, refined=False)
        np.testing.assert_allclose(scores.segments[clip, : LENGTHS[clip]].detach(), softmax(logits), atol=1e-10)
        losses.append(video_loss(logits.mean(axis=0), targets.labels[clip].numpy(), "binary"))
    assert network.cut > 0
    assert network.kept > 0
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        dict.fromkeys(("video", "total"), np.mean(losses)), abs=1e-10
    )


def test_pair_similarity_by_hand():
    """Two event segments of four, one of the cosines negative; a clip without an event; one segment of padding each."""
    similarity = torch.tensor([[0.6, 0.2, -0.5, 9.0], [0.5, 0.5, 0.0, 9.0]])
    event = torch.tensor([[True, True, False, True], [False, False, False, False]])
    mask = torch.tensor([[True, True, True, False]] * 2)
    first = (0.75 - 0.5) ** 2 + (0.25 - 0.5) ** 2
    second = 2 * (1 / 2 - 1 / 3) ** 2 + (1 / 3) ** 2
    assert pair_similarity_loss(similarity, event, mask).item() == pytest.approx((first + second) / 6)


def test_durations_are_used_only_with_proportions():
    assert PspConfig().training_labels == PspConfig(video_labels="proportions").training_labels == "segments"
    assert PspConfig(supervision="weak").training_labels == "video"
    assert PspConfig(supervision="weak", video_labels="proportions").training_labels == "proportions"


@pytest.mark.parametrize(("supervision", "parameters"), [("full", 1_548_657), ("weak", 1_253_902)])
def test_live_parameters_and_recipe_of_the_published_network(supervision, parameters):
    """Released: 1,667,251 less 118,594 that are never used; weak 1,254,251 less 349."""
    method = create("psp", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28, supervision=supervision)
    assert sum(parameter.numel() for parameter in method.parameters()) == parameters
    recipe = method.config.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.epochs, recipe.decay) == ("adam", 1e-3, 128, 300, 0.8)
    assert (recipe.milestones, method.config.threshold) == (((60, 120), 0.099) if supervision == "full" else ((80, 160), 0.095))
    assert recipe.clip_norm is None
