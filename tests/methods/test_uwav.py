"""UWAV's student: its size, its network and losses restated in NumPy, float64, and what it counts before training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import binary, relu, scatter, sigmoid
from test_han import Reference
from test_valor import CLASSES, LENGTHS, SMALL, example, learned_segments

from pipeline.batch import Batch
from pipeline.methods import METHODS, Progress, create
from pipeline.methods.uwav import mixture

MODALITIES = ("audio", "visual")


def build(motion="motion", **config):
    torch.manual_seed(1)
    return create(
        "uwav", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)},
        **{**SMALL, "audio_hidden": 5, "motion": motion, **config},
    )  # fmt: skip


def soft_example():
    """Clips with soft labels, 0 where the clip lacks the class."""
    batch, targets = example()
    generator = torch.Generator().manual_seed(3)
    soft = [
        torch.rand(3, 5, CLASSES, generator=generator, dtype=torch.float64) * targets.labels[:, None, :CLASSES] for _ in MODALITIES
    ]  # fmt: skip
    others = {"motion": batch.others["motion"], "audio_labels": soft[0], "visual_labels": soft[1]}
    return Batch(batch.visual, batch.audio, batch.mask, others), targets


class Student(Reference):
    def tokens(self, visual, audio, motion):
        """Both streams behind the encoder."""
        audio = self.linear("front_end.audio.2", relu(self.linear("front_end.audio.0", audio)))
        visual = visual.mean(axis=1)
        visual = self.linear("front_end.visual", visual if motion is None else np.concatenate([visual, motion], axis=1))
        return self.layers("encoder.", 2, audio, visual, heads=2, sequential=True)


def counted(batch):
    """Classes on in a valid segment, by modality."""
    return [
        np.mean([(batch.others[f"{part}_labels"][n, t] > 0.5).sum().item() for n, length in enumerate(LENGTHS) for t in range(length)])
        for part in MODALITIES
    ]


@pytest.mark.parametrize(("motion", "variant"), [("motion", "released"), (None, "paper")])
def test_forward_and_weighted_losses_equal_the_numpy_restatement(motion, variant):
    batch, targets = soft_example()
    method = scatter(build(motion, variant=variant)).eval()
    method.prepare(None, lambda: [(batch, targets), (batch, targets)])
    np.testing.assert_allclose(method.classes_on.numpy(), counted(batch), rtol=1e-6)
    reference, scores = Student(method), method.predict(batch)
    terms = {"audio_segments": [], "visual_segments": []}
    for clip, length in enumerate(LENGTHS):
        visual, audio, moves = (part[clip, :length].numpy() for part in (batch.visual, batch.audio, batch.others["motion"]))
        p_audio, p_visual, _, _, whole = reference.mmil(*reference.tokens(visual, audio, moves if motion else None))
        np.testing.assert_allclose(scores.clip_visual[clip].detach(), whole, atol=1e-10)
        for part, p, on in zip(MODALITIES, (p_audio, p_visual), counted(batch), strict=True):
            np.testing.assert_allclose(getattr(scores, part)[clip, :length].detach(), p, atol=1e-10)
            for t in range(length):
                for c in range(CLASSES):
                    weight = 0.5 * (CLASSES - on) if targets.labels[clip, c] else on
                    scale = CLASSES if variant == "paper" else 1
                    terms[f"{part}_segments"].append(
                        weight / scale * binary(p[t, c], batch.others[f"{part}_labels"][clip, t, c].item())
                    )  # fmt: skip
    losses = method.losses(batch, targets, Progress(0, 1))
    assert losses.keys() == {"clip", *terms, "total"}
    for name, values in terms.items():
        assert losses[name].item() == pytest.approx(np.mean(values), rel=1e-6), name
    assert losses["total"].item() == pytest.approx(sum(losses[name].item() for name in losses if name != "total"))


def test_segments_of_the_batch_are_mixed_in_training_with_one_share_a_modality(monkeypatch):
    """Against loops, with the shares and orders that were drawn; a pair with padding does not count."""
    batch, targets = soft_example()
    method = scatter(build()).train()
    drawn = []
    monkeypatch.setattr("pipeline.methods.uwav.mixture", lambda *given: drawn.append(given) or mixture(*given))
    losses = method.losses(batch, targets, Progress(0, 1))
    assert losses.keys() == {"clip", *(f"{part}_{of}" for part in MODALITIES for of in ("segments", "mixed")), "total"}
    reference, valid = Student(method), batch.mask.flatten()
    for number, part in enumerate(MODALITIES):
        (tokens, order, share), (labels, same_order, same_share) = drawn[2 * number : 2 * number + 2]
        assert torch.equal(order, same_order) and share == same_share and 0 < share < 1  # noqa: PT018
        assert sorted(order.tolist()) == list(range(15))
        assert torch.equal(labels, (batch.others[f"{part}_labels"] * batch.mask[..., None]).flatten(0, 1))
        w, x, values = float(share), tokens.detach().numpy(), []
        for row, other in enumerate(order.tolist()):
            if valid[row] and valid[other]:
                p = sigmoid(reference.linear("pooling.classifier", w * x[row] + (1 - w) * x[other]))
                values += [binary(q, y) for q, y in zip(p, (w * labels[row] + (1 - w) * labels[other]).tolist(), strict=True)]
        assert losses[f"{part}_mixed"].item() == pytest.approx(np.mean(values), rel=1e-6)
    assert float(drawn[0][2]) != float(drawn[2][2])
    assert losses["total"].item() == pytest.approx(sum(losses[name].item() for name in losses if name != "total"))


def test_shares_are_beta_distributed(monkeypatch):
    """Mean and variance of 500 draws; those of a uniform share would be 1/2 and 1/12."""
    shares = []
    monkeypatch.setattr("pipeline.methods.uwav.mixture", lambda values, order, share: shares.append(float(share)) or values)
    method, labels = build(), torch.rand(1, 2, CLASSES)
    with torch.no_grad():
        for _ in range(500):
            method._mixed_loss(torch.zeros(1, 2, 6), labels, torch.ones(1, 2, dtype=torch.bool), 1.7)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 1.7 + 1)), abs=0.012)


def test_padding_has_no_weight():
    """NaN behind the clips' ends changes neither losses nor gradients."""
    batch, targets = soft_example()
    outcomes = []
    for fill in (0.0, float("nan")):
        padding = ~batch.mask
        streams = [batch.visual.masked_fill(padding[..., None, None], fill), batch.audio.masked_fill(padding[..., None], fill)]
        others = {name: stream.masked_fill(padding[..., None], fill) for name, stream in batch.others.items()}
        method = scatter(build()).train()
        method.prepare(None, lambda streams=streams, others=others: [(Batch(*streams, batch.mask, others), targets)])
        torch.manual_seed(5)
        losses = method.losses(Batch(*streams, batch.mask, others), targets, Progress(0, 1))
        losses["total"].backward()
        outcomes.append([*losses.values(), *(weight.grad for weight in method.parameters())])
    for one, other in zip(*outcomes, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_as_coleafs_anchor_its_segments_and_their_mixtures_have_the_given_weight(variant):
    batch, targets = soft_example()
    found = []
    for weight in (1.0, 3.0):
        torch.manual_seed(1)
        labels = {"audio": "audio_labels", "visual": "visual_labels"}
        method = create(
            "coleaf", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, anchor="uwav",
            anchor_settings={**SMALL, "audio_hidden": 5}, feedforward=8, variant=variant, pseudo_labels=labels, segment_weight=weight,
        ).double()  # fmt: skip
        method.prepare(None, lambda: [(batch, targets)])
        found.append(method.train().losses(batch, targets, Progress(0, 1)))
    one, three = found
    of_segments = sum(one[f"{part}_{of}"] for part in MODALITIES for of in ("segments", "mixed"))
    assert (three["total"] - one["total"]).item() == pytest.approx(2 * of_segments.item(), rel=1e-6)


def test_parameters_as_the_released_network_uses_and_its_recipe():
    method = create("uwav", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, other_shapes={"motion": (512,)})
    assert sum(weight.numel() for weight in method.parameters()) == 23_021_643
    recipe = METHODS.get("uwav").Config().recipe
    assert (recipe.optimizer, recipe.betas, recipe.weight_decay, recipe.clip_norm) == ("adamw", (0.9, 0.999), 1e-4, 1.0)
    assert (recipe.schedule, recipe.warmup_epochs, recipe.epochs, recipe.batch_size) == ("warmup_cosine", 10, 80, 64)
    assert (recipe.learning_rate, recipe.minimum, recipe.selection) == (1e-4, 5e-6, None)


def test_sixteen_clips_are_learned_by_heart_from_labels_of_their_segments():
    method = build(width=16, layers=1, audio_hidden=16, mixup=None)
    method.classes_on.fill_(0.8)
    assert learned_segments(method) >= 0.95
