"""Trainable parts of an encoder, pooling of frames, and the two variants, on every visual encoder."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pipeline.contrastive.model import ContrastiveModel, Heads, trained_blocks
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.encoders import ENCODERS, VisualEncoder, create
from pipeline.errors import PipelineError

pytestmark = pytest.mark.processor

SMALL = {"weights": "none", "image_size": 32, "resize": 32}
# name: options, the children (opened once) that hold the last three blocks, number of blocks
NETWORKS = {
    "resnet50": ({}, ["layer4.0", "layer4.1", "layer4.2"], 17),
    "resnet152": ({}, ["layer4.0", "layer4.1", "layer4.2"], 51),
    "vgg19": ({}, ["features.30", "features.32", "features.34"], 16),
    "efficientnet_lite0": ({"layer": "head"}, ["blocks.5", "blocks.6", "conv_head", "bn2"], 9),
    "timm": ({"model": "test_vit"}, ["blocks.3", "blocks.4", "blocks.5"], 7),
    "clip": ({"model": "vit_xsmall_patch16_clip_224"}, ["blocks.8", "blocks.9", "norm", "head"], 12),
}


def settings(**changes):
    base = {"visual": {"encoder": "timm"}, "audio": {"encoder": "logmel"}, "width": 8}
    return FinetuneSettings.model_validate({**base, **changes})


def build(encoder, audio_width=128, **changes):
    torch.manual_seed(0)
    chosen = settings(**changes)
    heads = Heads(chosen, encoder.output_shape[-1], audio_width, torch.linspace(-1, 1, audio_width), torch.full((audio_width,), 2.0))
    return ContrastiveModel(encoder, heads, chosen)


def small(model="test_resnet", **options):
    return create("timm", model=model, **SMALL, **options)


def test_every_visual_encoder_is_here():
    visual = {name for name in ENCODERS.names() if issubclass(ENCODERS.get(name), VisualEncoder)}
    assert {name for name in visual if ENCODERS.get(name).sees == "frame"} == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_blocks_learn_and_nothing_else(name):
    options, last_three, count = NETWORKS[name]
    encoder = create(name, **SMALL, **options)
    model = build(encoder, train_last=3)
    model.thaw()
    learning = {key for key, parameter in model.network.named_parameters() if parameter.requires_grad}
    for block in last_three:
        assert any(key.startswith(f"{block}.") for key in learning), block
    assert all(any(key.startswith(f"{block}.") for block in last_three) for key in learning)
    assert len(trained_blocks(encoder, count)) == 1  # all of them, in one list
    with pytest.raises(PipelineError, match=f"{name} has {count} blocks"):
        trained_blocks(encoder, count + 1)
    model.train()
    visual, _, _ = model(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]), torch.randn(2, 128))
    (visual * torch.randn_like(visual)).sum().backward()
    assert {key for key, parameter in model.network.named_parameters() if parameter.grad is not None} == learning


def test_parameters_the_features_do_not_use_are_never_trained():
    encoder = create("efficientnet_lite0", **SMALL, layer="last_stage")
    model = build(encoder)
    model.thaw()
    still = {key for key, parameter in model.network.named_parameters() if not parameter.requires_grad}
    assert still == {"conv_head.weight", "bn2.weight", "bn2.bias", "classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_what_is_frozen_stays_in_eval_mode(batch_norm):
    model = build(small(), train_last=2, batch_norm=batch_norm)
    model.thaw()
    before = {key: value.clone() for key, value in model.network.named_buffers()}
    model.train()
    model(torch.randn(4, 3, 32, 32), torch.arange(4), torch.randn(4, 128))
    moved = {key for key, value in model.network.named_buffers() if not torch.equal(value, before[key])}
    learning = {key for key, parameter in model.network.named_parameters() if parameter.requires_grad}
    norms = {key for key, module in model.network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    trained_norms = {key for key in norms if f"{key}.weight" in learning}
    assert 0 < len(trained_norms) < len(norms)
    assert {key.rpartition(".")[0] for key in moved} == (trained_norms if batch_norm == "train" else set())
    model.thaw(False)
    model.train()
    assert not any(module.training for module in model.network.modules())
    assert all(parameter.requires_grad for parameter in (model.heads.visual.weight, model.heads.audio.weight))


def test_dropout_follows_the_block_it_lies_in():
    model = build(small("test_vit"), train_last=1)
    model.thaw()
    model.train()
    modes = [{module.training for module in block.modules() if isinstance(module, nn.Dropout)} for block in model.network.blocks]
    assert modes == [{False}] * 5 + [{True}]
    assert not model.network.patch_embed.training


@pytest.mark.parametrize("pool", ["map", "average"])
def test_a_clip_is_the_mean_over_its_frames_and_positions(pool):
    encoder = create("timm", **SMALL | {"image_size": 64, "resize": 64}, model="test_resnet", pool=pool)
    model = build(encoder).eval()
    frames, owner = torch.randn(5, 3, 64, 64), torch.tensor([1, 0, 1, 1, 2])
    with torch.no_grad():
        pooled = model.pool(frames, owner, 3)
        maps = encoder.feature_map(frames).double().mean((2, 3))
    for clip, members in enumerate([[1], [0, 2, 3], [4]]):
        torch.testing.assert_close(pooled[clip].double(), sum(maps[frame] for frame in members) / len(members), rtol=1e-5, atol=1e-6)


def test_released_projects_to_length_one_without_bias():
    model = build(small(), width=16, temperature=0.2)
    visual, audio = torch.rand(3, model.encoder.output_shape[-1]), torch.rand(3, 128)
    v, a, tau = model.heads(visual, audio)
    assert v.shape == a.shape == (3, 16)
    assert float(tau.detach()) == pytest.approx(0.2)
    for embedded, rows, weight in ((v, visual, model.heads.visual.weight), (a, audio, model.heads.audio.weight)):
        product = rows.double() @ weight.detach().double().T
        torch.testing.assert_close(embedded.double(), product / product.norm(dim=1, keepdim=True), rtol=1e-5, atol=1e-6)
    standard = build(small(), width=16, standardize_audio=True)
    _, a, _ = standard.heads(visual, audio)
    shifted = (audio - torch.linspace(-1, 1, 128)) / 2
    product = shifted @ standard.heads.audio.weight.T
    torch.testing.assert_close(a, product / product.norm(dim=1, keepdim=True))


def test_paper_compares_the_features_directly():
    encoder = small()
    width = encoder.output_shape[-1]
    model = build(encoder, audio_width=width, variant="paper", temperature=0.5)
    assert not [parameter for parameter in model.heads.parameters() if parameter.requires_grad]
    visual, audio = torch.rand(2, width), torch.rand(2, width)
    v, a, _ = model.heads(visual, audio)
    torch.testing.assert_close(v, visual / visual.norm(dim=1, keepdim=True))
    torch.testing.assert_close(a, audio / audio.norm(dim=1, keepdim=True))
    assert settings(variant="released").symmetric
    assert not settings(variant="paper").symmetric
    with pytest.raises(PipelineError, match=r"variant: paper.*timm\D*\d+.*logmel\D*7"):
        build(encoder, audio_width=7, variant="paper")


def test_a_learned_temperature_is_at_least_one_hundredth():
    model = build(small(), learnable_temperature=True)
    with torch.no_grad():
        model.heads.log_temperature.fill_(math.log(1e-5))
    assert float(model.heads(torch.rand(1, model.encoder.output_shape[-1]), torch.rand(1, 128))[2].detach()) == pytest.approx(0.01)
