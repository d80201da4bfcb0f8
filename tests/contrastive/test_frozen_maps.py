"""Kept maps of frozen blocks: where a network is cut, and that steps from maps equal steps from frames."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from pipeline.contrastive import maps
from pipeline.contrastive.batches import ClipBatch
from pipeline.contrastive.data import draw_random
from pipeline.contrastive.maps import FrameSource, MapSource, draw_all, size_in_gb
from pipeline.contrastive.model import ContrastiveModel, Heads
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.contrastive.steps import plain_step
from pipeline.encoders import create
from pipeline.metrics.retrieval import mean_recall

pytestmark = pytest.mark.processor

SMALL = {"weights": "none", "image_size": 64, "resize": 64}
# encoder, options, train_last, children (opened once) on both sides of the cut
CUTS = [
    ("resnet50", {}, 3, "layer3.5", "layer4.0"),
    ("vgg19", {}, 2, "features.31", "features.32"),
    ("efficientnet_lite0", {"layer": "last_stage"}, 3, "blocks.3", "blocks.4"),
    ("efficientnet_lite0", {"layer": "head"}, 1, "blocks.6", "conv_head"),
    ("timm", {"model": "test_resnet"}, 1, "layer3.0", "layer4.0"),
    ("timm", {"model": "test_resnet"}, 0, "layer4.0", None),
]


def build(name="timm", **changes):
    torch.manual_seed(0)
    options = changes.pop("options", {"model": "test_resnet"})
    encoder = create(name, **SMALL, **options)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.uniform_(-0.2, 0.2)
    base = {"visual": {"encoder": name, **options}, "audio": {"encoder": "logmel"}, "batch_norm": "frozen", "width": 8}
    settings = FinetuneSettings.model_validate({**base, **changes})
    return ContrastiveModel(encoder, Heads(settings, encoder.output_shape[-1], 12, torch.zeros(12), torch.ones(12)), settings)


@pytest.mark.parametrize(("name", "options", "last", "before", "after"), CUTS)
def test_the_cut_is_before_the_first_block_that_learns_and_its_halves_make_the_map(name, options, last, before, after):
    model = build(name, options=options, train_last=last)
    cut = model.find_cut()
    assert cut is not None
    modules = {module: key for key, module in model.network.named_modules()}
    assert modules[cut.frozen[-1]] == before
    if after is not None:
        assert modules[cut.rest[0]] == after
    model.eval()
    frames = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(cut.finish(cut.begin(frames)), model.encoder.feature_map(frames), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "last"),
    [({"model": "test_resnet"}, None), ({"model": "test_vit"}, 2)],  # nothing is frozen; not sequential
)
def test_networks_that_cannot_be_cut(options, last):
    assert build(options=options, train_last=last).find_cut() is None


def test_the_same_loss_and_gradients_as_from_frames():
    model = build(train_last=2, learnable_temperature=True)
    model.thaw()
    model.train()
    torch.manual_seed(1)
    owner, groups = torch.tensor([0, 0, 1, 2, 2, 2, 3]), torch.tensor([0, 1, 2, 1])
    batch = ClipBatch(torch.randn(7, 3, 64, 64), owner, torch.randn(4, 12), groups)
    other = copy.deepcopy(model)
    other.cut = other.find_cut()
    other.train()
    with torch.no_grad():
        kept = ClipBatch(other.cut.begin(batch.frames), owner, batch.audio, groups)
    results = []
    for one, given in ((model, batch), (other, kept)):
        fabric = Fabric(accelerator="cpu", devices=1)
        wrapped, _ = fabric.setup(one, torch.optim.SGD([parameter for parameter in one.parameters() if parameter.requires_grad], lr=1))
        loss = plain_step(fabric, wrapped, given, True)
        results.append((loss, {name: parameter.grad for name, parameter in one.named_parameters() if parameter.grad is not None}))
    (loss, gradients), (loss_of_maps, gradients_of_maps) = results
    torch.testing.assert_close(loss_of_maps, loss, rtol=1e-6, atol=1e-7)
    assert gradients_of_maps.keys() == gradients.keys()
    assert any(name.startswith("encoder.network.layer3") for name in gradients)
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradients_of_maps[name], gradient, rtol=1e-5, atol=1e-7 + 1e-5 * float(gradient.abs().max()), msg=name)


def test_maps_are_those_of_the_frames_and_made_once(world, tmp_path):
    model = build(train_last=1)
    model.eval()
    cut = model.find_cut()
    frames, passes = FrameSource(world.cache, model.encoder), []

    @torch.no_grad()
    def begin(part):
        passes.append(len(part))
        return cut.begin(part)

    items = world.select().train
    kept, shape = {item.clip: draw_all(item) for item in items}, (192, 4, 4)
    source = MapSource(frames, begin, kept, shape, 4, tmp_path)
    for epoch in (0, 1):
        draws = [draw_random(item, 5, epoch, 2, 1) for item in items]
        for (draw, got), (same, whole) in zip(source.of(draws), frames.of(draws), strict=True):
            assert draw == same
            with torch.no_grad():
                torch.testing.assert_close(got, cut.begin(whole), rtol=1e-5, atol=1e-6)
    assert passes == [4, 2] * len(items)  # 3 segments of 2 frames, once
    assert size_in_gb(kept, shape) == pytest.approx(10 * 6 * 192 * 16 * 4 / 1e9)
    assert list(tmp_path.glob("*")) == [world.cache.root]  # the file has no name


def test_a_fine_tuning_from_maps_equals_one_from_frames(world, tmp_path, monkeypatch):
    loads = []
    load = maps.load_frames
    monkeypatch.setattr(maps, "load_frames", lambda cache, encoder, draw: (loads.append(draw.item.clip), load(cache, encoder, draw))[1])
    world.run(tmp_path / "maps", train_last=1)
    assert sorted(loads) == sorted(item.clip for part in (world.select().train, world.select().validation) for item in part)
    loads.clear()
    world.run(tmp_path / "frames", train_last=1, maps_gb=1e-9)
    assert len(loads) == 10 + 5 + 3 * 10 + 4 * 5  # for the heads, and in each epoch
    for name in ("encoder", "heads"):
        one, two = (load_file(tmp_path / number / f"{name}.safetensors") for number in ("maps", "frames"))
        for key, value in one.items():
            torch.testing.assert_close(value, two[key], rtol=1e-4, atol=1e-5, msg=f"{name} {key}")
    curves = [pd.read_csv(tmp_path / number / "curve.csv")["train/loss"] for number in ("maps", "frames")]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


def test_fine_tuning_is_compared_with_the_heads_of_the_best_validation(world, tmp_path):
    def before(**changes):
        facts = json.loads(world.run(tmp_path / str(len(list(tmp_path.iterdir()))), epochs=0, **changes)["finetune.json"])
        return mean_recall(facts["val"]["before"])

    scores = [before(head_epochs=count, head_learning_rate=0.1) for count in range(1, 6)]
    assert scores == sorted(scores)
    assert before(head_epochs=5, head_learning_rate=0.1, patience=1) in scores
