"""VALOR, VALOR+ and VALOR++: their sizes, VALOR restated in NumPy, float64, and clips learned from labels of segments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from restatement import binary, scatter
from test_han import Reference

from pipeline.batch import Batch
from pipeline.methods import METHODS, Progress, create
from pipeline.tasks.labels import VideoTargets

CLASSES, LENGTHS = 3, (5, 3, 1)
SMALL = {"width": 6, "layers": 2, "heads": 2, "feedforward": 8, "dropout": 0.0}
LIVE = {  # by method: shapes of the published features, parameters that the released network uses
    "valor": ((8, 2048), (128,), 5_094_475),
    "valor_plus": ((8, 2048), (128,), 5_051_211),
    "valor_plus_plus": ((768,), (768,), 4_887_371),
}


def build(name="valor", **config):
    torch.manual_seed(1)
    return create(name, visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, **{**SMALL, **config})


def example(clips=3, lengths=LENGTHS):
    """Clips with labels of some segments in each modality, and of padded ones, which do not count."""
    generator = torch.Generator().manual_seed(0)
    streams = [torch.randn(clips, 5, *shape, generator=generator, dtype=torch.float64) for shape in ((2, 4), (7,), (5,))]
    guessed = [(torch.rand(clips, 5, CLASSES, generator=generator) < 0.4).double() for _ in range(2)]
    labels = (guessed[0].amax(dim=1) + guessed[1].amax(dim=1)).clamp(max=1)
    others = {"motion": streams[2], "audio_labels": guessed[0], "visual_labels": guessed[1]}
    targets = VideoTargets(torch.cat([labels, 1 - labels.amax(dim=1, keepdim=True)], dim=1))
    return Batch(streams[0], streams[1], torch.arange(5) < torch.tensor(lengths)[:, None], others), targets


@pytest.mark.parametrize("order", ["sequential", "parallel"])
def test_forward_and_losses_equal_the_numpy_restatement(order):
    batch, targets = example()
    method = scatter(build(order=order))
    reference, scores = Reference(method), method.predict(batch)
    terms = {"clip": [], "audio_segments": [], "visual_segments": []}
    for clip, length in enumerate(LENGTHS):
        visual, audio, motion = (part[clip, :length].numpy() for part in (batch.visual, batch.audio, batch.others["motion"]))
        streams = reference.tracks(visual, audio, motion)
        p_audio, p_visual, _, _, whole = reference.mmil(*reference.layers("encoder.", 2, *streams, 2, order == "sequential"))
        np.testing.assert_allclose(scores.audio[clip, :length].detach(), p_audio, atol=1e-10)
        np.testing.assert_allclose(scores.visual[clip, :length].detach(), p_visual, atol=1e-10)
        np.testing.assert_allclose(scores.clip_audio[clip].detach(), whole, atol=1e-10)
        assert torch.equal(scores.clip_audio, scores.clip_visual)  # one gate for both
        terms["clip"] += [binary(min(p, 1 - 1e-7), targets.labels[clip, c].item()) for c, p in enumerate(whole)]
        for modality, p in (("audio", p_audio), ("visual", p_visual)):
            guessed = batch.others[f"{modality}_labels"][clip, :length].numpy()
            terms[f"{modality}_segments"] += [binary(q, y) for q, y in zip(p.flatten(), guessed.flatten(), strict=True)]
    losses = method.losses(batch, targets, Progress(0, 1))
    wanted = {name: np.mean(values) for name, values in terms.items()}
    wanted["total"] = sum(wanted.values())
    assert {name: term.item() for name, term in losses.items()} == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("name", LIVE)
def test_parameters_as_the_released_network_uses(name):
    visual, audio, live = LIVE[name]
    method = create(name, visual_shape=visual, audio_shape=audio, num_classes=25, other_shapes={"motion": (512,)})
    assert sum(weight.numel() for weight in method.parameters()) == live


def test_the_released_recipes_are_the_defaults():
    for name, (rate, minimum) in {"valor": (1e-4, 1e-6), "valor_plus": (3e-4, 3e-6), "valor_plus_plus": (3e-4, 3e-6)}.items():
        recipe = METHODS.get(name).Config().recipe
        assert (recipe.optimizer, recipe.betas, recipe.weight_decay, recipe.clip_norm) == ("adamw", (0.5, 0.999), 1e-3, 1.0)
        assert (recipe.schedule, recipe.warmup_epochs, recipe.epochs, recipe.batch_size) == ("warmup_cosine", 10, 60, 64)
        assert (recipe.learning_rate, recipe.minimum, recipe.selection) == (rate, minimum, None)


def test_sixteen_clips_are_learned_by_heart_from_labels_of_their_segments():
    assert learned_segments(build(width=16, layers=1)) >= 0.95


def learned_segments(method):
    """Share of the segment labels of sixteen clips, in the worse modality, that up to 300 steps teach."""
    batch, targets = example(16, (5,) * 8 + (3,) * 8)
    batch = batch._map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
    optimizer = torch.optim.AdamW(method.parameters(), 1e-2)
    right = 0.0
    for step in range(300):
        optimizer.zero_grad()
        method.losses(batch, targets, Progress(step, 400))["total"].backward()
        optimizer.step()
        if step % 10 == 9:
            with torch.no_grad():
                scores = method.predict(batch)
            hits = [(getattr(scores, part) > 0.5) == (batch.others[f"{part}_labels"] > 0.5) for part in ("audio", "visual")]
            right = min(hit[batch.mask].float().mean().item() for hit in hits)
            if right >= 0.95:
                break
    return right


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValidationError, match=r"width \(6\) must be a multiple of heads \(5\)"):
        build(heads=5)
    with pytest.raises(ValidationError, match="less than 1"):
        build(recipe={"betas": (0.5, 1.0)})
    with pytest.raises(ValidationError, match="rate_factors: head: no such part"):
        build(recipe={"rate_factors": {"head": 2.0}})
