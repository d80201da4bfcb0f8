"""MM-Pyramid for parsing: its size, forward pass and losses restated in NumPy, and what its settings change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from pyramid_restatement import Pyramid
from restatement import binary, scatter
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as Han

from pipeline.batch import Batch
from pipeline.methods import METHODS, Progress, create
from pipeline.tasks.labels import VideoTargets

PUBLISHED = {"visual_shape": (8, 2048), "audio_shape": (128,), "num_classes": 25, "other_shapes": {"motion": (512,)}}
SHAPES = {"visual_shape": (2, 4), "audio_shape": (7,), "num_classes": CLASSES, "other_shapes": {"motion": (5,)}}
SMALL = {"width": 6, "heads": 2, "levels": 3, "feedforward": 8, "dropout": 0.0, "attention_dropout": 0.0}


def build(**config):
    torch.manual_seed(1)
    return scatter(create("mm_pyramid", **SHAPES, **{**SMALL, **config}), limit=0.5)


class Reference(Pyramid, Han):
    """One clip -> p^a, p^v (T, C), P^a, P^v, P (C,); the frames averaged after their layer."""

    def __call__(self, visual, audio, motion):
        audio = self.linear("front_end.audio", audio)
        visual = self.linear("front_end.visual", visual).mean(axis=1)
        visual = self.linear("front_end.fusion", np.concatenate([visual, self.linear("front_end.motion", motion)], axis=1))
        return self.mmil(*self.encode(audio, visual, name="encoder."))


@pytest.mark.parametrize("variant", ["fixed", "released"])
def test_forward_and_losses_equal_the_numpy_restatement(variant):
    """Released: the network's first output is the visual stream, named audio in the answers and in the losses."""
    batch, targets = example()
    method = build(variant=variant)
    reference, terms, scores = Reference(method), {"audio": [], "visual": [], "clip": []}, method.predict(batch)
    for clip, length in enumerate(LENGTHS):
        p_audio, p_visual, audio, visual, whole = reference(
            *(stream[clip, :length].numpy() for stream in (batch.visual, batch.audio, batch.others["motion"]))
        )
        if variant == "released":
            p_audio, p_visual, audio, visual = p_visual, p_audio, visual, audio
        np.testing.assert_allclose(scores.audio[clip, :length].detach(), p_audio, atol=1e-10)
        np.testing.assert_allclose(scores.visual[clip, :length].detach(), p_visual, atol=1e-10)
        np.testing.assert_allclose(scores.clip_audio[clip].detach(), whole, atol=1e-10)
        assert torch.equal(scores.clip_audio, scores.clip_visual)  # one gate for both
        for number in range(CLASSES):
            y = targets.labels[clip, number].item()
            terms["audio"].append(binary(audio[number], y))
            terms["visual"].append(binary(visual[number], 0.9 * y + 0.05))
            terms["clip"].append(binary(min(whole[number], 1 - 1e-7), y))
    losses = method.losses(batch, targets, Progress(0, 1))
    for name, values in terms.items():
        assert losses[name].item() == pytest.approx(np.mean(values), abs=1e-10), name
    assert losses["total"].item() == pytest.approx(sum(np.mean(values) for values in terms.values()), abs=1e-10)


def test_parameters_as_the_released_network_uses():
    with torch.device("meta"):
        method = create("mm_pyramid", **PUBLISHED)
    assert sum(weight.numel() for weight in method.parameters()) == 40_827_469


def test_the_released_recipe_and_rates_are_the_defaults():
    config = METHODS.get("mm_pyramid").Config()
    recipe = config.recipe
    assert (recipe.learning_rate, recipe.milestones, recipe.decay, recipe.batch_size, recipe.epochs) == (1e-4, (10, 20, 30), 0.1, 16, 40)
    assert (recipe.optimizer, recipe.weight_decay, recipe.selection) == ("adam", 0.0, None)
    assert (config.dropout, config.attention_dropout, config.visual_share, config.variant) == (0.2, 0.1, 0.9, "fixed")
    assert (config.segment_threshold, config.clip_threshold, config.refine) == (0.5, 0.5, False)


def test_a_removed_label_counts_as_absent_in_its_modality_alone(tmp_path):
    """Its target is 0, also in the smoothed visual labels; the clip keeps it."""
    batch, targets = example()
    labels = VideoTargets(targets.labels, torch.tensor([4, 0, 2]))
    removed = {"remove_audio": np.zeros((5, CLASSES), bool), "remove_visual": np.zeros((5, CLASSES), bool)}
    removed["remove_audio"][4, 0] = removed["remove_visual"][4, 1] = removed["remove_visual"][0, 2] = True
    np.savez(tmp_path / "removed.npz", **removed)
    method = build(refine=True, removed_labels=tmp_path / "removed.npz")
    plain = method.losses(batch, labels, Progress(0, 1))
    method.prepare(None, lambda: [(batch, labels)])
    refined = method.losses(batch, labels, Progress(0, 1))
    said = method.anchor_forward(method.inputs(batch))
    for name, probabilities, before in (("audio", said.clip_audio[[0], [0]], 1.0), ("visual", said.clip_visual[[0, 1], [1, 2]], 0.95)):
        change = sum(binary(p, 0.0) - binary(p, before) for p in probabilities.tolist()) / (len(LENGTHS) * CLASSES)
        assert refined[name].item() - plain[name].item() == pytest.approx(change, abs=1e-10), name
    assert refined["clip"].item() == plain["clip"].item()


def test_ma_trained_first_refines_the_labels():
    """Its settings are those of `refiner`; a fault in them names its place, and nothing idle is taken."""
    config = METHODS.get("mm_pyramid").Config(refine=True, motion=None, refiner={"width": 12})
    assert config.first_method == "ma"
    assert (config.first.width, config.first.refine, config.first.motion) == (12, False, None)
    assert METHODS.get("mm_pyramid").Config().first is None
    for settings, words in (
        ({"refine": True, "refiner": {"widht": 12}}, r"refiner\.widht"),
        ({"refiner": {"width": 12}}, "refiner needs refine: true"),
        ({"removed_labels": "some.npz"}, "removed_labels needs refine: true"),
        ({"refine": True, "refiner": {"motion": None}}, "refiner: motion"),
        ({"width": 10, "heads": 4}, r"width \(10\).*heads \(4\)"),
    ):
        with pytest.raises(ValidationError, match=words):
            METHODS.get("mm_pyramid").Config(**settings)


def test_coleaf_trains_it_as_its_anchor():
    batch, targets = example()
    torch.manual_seed(0)
    method = create("coleaf", **SHAPES, anchor="mm_pyramid", anchor_settings=SMALL, feedforward=8).double()
    for terms in method.steps(batch, targets, Progress(9, 10)):
        terms["total"].backward()
    assert all(weight.grad is not None for weight in method.anchor.parameters())
    with pytest.raises(ValidationError, match="refine: CoLeaF trains its Anchor on all labels"):
        create("coleaf", **SHAPES, anchor="mm_pyramid", anchor_settings={"refine": True})


def test_any_number_of_segments_is_taken():
    method = build()
    for segments in (1, 13):
        visual, audio, motion = (torch.randn(2, segments, *shape, dtype=torch.float64) for shape in ((2, 4), (7,), (5,)))
        batch = Batch(visual, audio, torch.ones(2, segments, dtype=torch.bool), {"motion": motion})
        assert method.predict(batch).audio.shape == (2, segments, CLASSES)
