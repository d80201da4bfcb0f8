"""CACE-Net: sizes, the switch of the contrast, the gate's two losses, settings."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from pipeline.batch import Batch
from pipeline.layers.background_suppression import gate_loss
from pipeline.methods import Progress, create
from pipeline.tasks.avel import AvelTargets

NARROW = {"visual_hidden": 16, "audio_hidden": 8, "attention_width": 8, "width": 16, "intra_feedforward": 24, "cross_feedforward": 24}


def build(visual_shape=(2, 2, 6), audio_shape=(8,), num_classes=3, **config):
    torch.manual_seed(0)
    return create("cace_net", visual_shape=visual_shape, audio_shape=audio_shape, num_classes=num_classes, **config)


def random_batch():
    torch.manual_seed(1)
    batch = Batch(torch.randn(2, 4, 2, 2, 6), torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool))
    return batch, AvelTargets(torch.tensor([[3, 1, 1, 3], [0, 0, 0, 0]]), torch.tensor([1, 0]))


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        ({}, 9_283_417),  # 13,118,681 of the released network less 3,835,264 that are never called
        ({"guidance": "none"}, 7_326_807),
        ({"guidance": "visual"}, 7_870_295),
        ({"guidance": "audio"}, 9_283_417 - 543_488 + 1024),  # less the co-guidance extras of Table S6, but for the norm counted there
        ({"contrast": False}, 9_283_417 - (256 * 256 + 256)),
        ({"variant": "paper"}, 9_283_417 - 393_984 - 1024 - 256),  # less one self-attention and two norms
        # less both BiLSTMs (4 gates, two bias vectors, two directions), more one layer of neurons each
        ({"temporal": "snn"}, 9_283_417 - 8 * (256 * (512 + 256 + 2) + 128 * (128 + 128 + 2)) + (512 + 1) * 512 + (128 + 1) * 256),
    ],
    ids=str,
)
def test_live_parameters_of_the_published_network(config, parameters):
    method = build((7, 7, 512), (128,), 28, **config)
    assert sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad) == parameters


def test_audio_of_the_released_width_enters_raw_and_other_is_projected():
    assert not list(build(**NARROW).audio_input.parameters())
    projected = build(audio_shape=(2048,)).audio_input
    assert [tuple(parameter.shape) for parameter in projected.parameters()] == [(128, 2048), (128,)]
    assert (projected(torch.randn(5, 2048)) >= 0).all()


def test_recipe_is_the_papers():
    recipe = build(**NARROW).config.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay, recipe.batch_size) == ("adam", 7e-4, 0, 64)
    assert (recipe.epochs, recipe.milestones, recipe.decay, recipe.clip_norm) == (200, (10, 20, 30), 0.5, 0.5)


@pytest.mark.parametrize(
    ("variant", "epoch", "epochs", "active"),
    [
        ("released", 24, 200, False), ("released", 25, 200, True), ("released", 0, 1, False), ("released", 1, 9, False),
        ("released", 2, 9, True), ("paper", 0, 200, True),
    ],
)  # fmt: skip
def test_the_contrast_starts_at_an_eighth_of_the_epochs(variant, epoch, epochs, active):
    method = build(**NARROW, variant=variant).train()
    terms = method.losses(*random_batch(), Progress(epoch, epochs))
    assert bool(method.contrast_active) == active
    assert (terms["contrast"].item() > 0) == active


def test_the_switch_moves_the_event_head_and_is_kept_in_evaluation():
    method = build(**NARROW).train()
    batch, targets = random_batch()
    method.losses(batch, targets, Progress(0, 80))
    method.eval()
    before = method.predict(batch)
    method.train().losses(batch, targets, Progress(79, 80))
    method.eval()
    after = method.predict(batch)
    assert not torch.equal(before.event, after.event)
    assert torch.equal(before.classes, after.classes)  # with enhanced_heads: both they move too: test_cace_net_forward
    method.losses(batch, targets, Progress(0, 80))  # evaluating a loss does not switch
    assert torch.equal(method.predict(batch).event, after.event)
    assert "contrast_active" in method.state_dict()


def test_before_the_switch_the_contrast_encoder_is_untouched():
    method = build(**NARROW).train()
    method.losses(*random_batch(), Progress(0, 80))["total"].backward()
    untouched = {name for name, parameter in method.named_parameters() if parameter.grad is None}
    assert untouched == {"contrast_encoder.0.weight", "contrast_encoder.0.bias"}


def test_prediction_draws_no_random_numbers():
    method = build(**NARROW).eval()
    method.contrast_active.fill_(True)
    batch, _ = random_batch()
    before = torch.get_rng_state()
    method.predict(batch)
    assert torch.equal(before, torch.get_rng_state())


def test_faithful_gate_loss_cannot_go_below_log_two_on_background():
    closed = torch.tensor([-50.0])
    assert gate_loss(closed, closed, torch.zeros(1), "faithful").item() == pytest.approx(math.log(2))
    opened = torch.tensor([50.0])
    assert gate_loss(opened, opened, torch.ones(1), "faithful").item() == pytest.approx(0.313, abs=5e-4)
    assert gate_loss(opened, opened, torch.zeros(1), "faithful").item() == pytest.approx(1.313, abs=5e-4)
    assert gate_loss(closed, closed, torch.zeros(1), "corrected").item() == pytest.approx(0, abs=1e-6)
    assert gate_loss(opened, opened, torch.ones(1), "corrected").item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_corrected_gate_loss_is_binary_cross_entropy_of_the_product(truth):
    audio, visual = (logits.flatten() for logits in torch.meshgrid(*[torch.linspace(-6, 6, 9, dtype=torch.float64)] * 2, indexing="ij"))
    labels = torch.full_like(audio, truth)
    expected = torch.nn.functional.binary_cross_entropy(audio.sigmoid() * visual.sigmoid(), labels, reduction="none")
    torch.testing.assert_close(gate_loss(audio, visual, labels, "corrected"), expected)


@pytest.mark.parametrize("form", ["faithful", "corrected"])
def test_gate_loss_of_saturated_gates_is_finite(form):
    audio = torch.tensor([200.0, 200.0, -200.0, 200.0], requires_grad=True)
    visual = torch.tensor([200.0, -200.0, -200.0, 200.0], requires_grad=True)
    loss = gate_loss(audio, visual, torch.tensor([0.0, 1.0, 0.0, 1.0]), form).sum()
    loss.backward()
    assert loss.isfinite()
    assert audio.grad.isfinite().all()
    assert visual.grad.isfinite().all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"width": 10}, r"width \(10\).*heads \(4\)"),
        ({"visual_hidden": 15}, r"visual_hidden \(15\).*even"),
        ({"contrast_temperature": 0}, "contrast_temperature"),
        ({"guidance": "co"}, "guidance"),
        ({"gate_loss": "other"}, "gate_loss"),
    ],
    ids=str,
)
def test_settings_out_of_range(config, message):
    with pytest.raises(ValidationError, match=message):
        build(**config)
