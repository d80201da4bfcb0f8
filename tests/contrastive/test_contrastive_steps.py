"""The cached step against the plain one."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.functional import normalize

from pipeline.contrastive.batches import ClipBatch
from pipeline.contrastive.loss import info_nce
from pipeline.contrastive.model import ContrastiveModel, Heads
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.contrastive.steps import cached_step, plain_step
from pipeline.encoders import create

pytestmark = pytest.mark.processor

FABRIC = Fabric(accelerator="cpu", devices=1)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    owner = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 4])
    return ClipBatch(torch.randn(9, 3, 32, 32), owner, torch.randn(5, 12), torch.tensor([0, 1, 2, 1, 3]))


def gradients(step, model, batch, *arguments):
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1)
    wrapped, _ = FABRIC.setup(model, optimizer)
    loss = step(FABRIC, wrapped, batch, True, *arguments)
    return loss, {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("clips", [1, 2, 5, 64])
def test_the_same_loss_and_gradients(batch, clips):
    torch.manual_seed(0)
    options = {"model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32}
    settings = FinetuneSettings.model_validate({
        "visual": {"encoder": "timm", **options}, "audio": {"encoder": "logmel"}, "batch_norm": "frozen", "learnable_temperature": True,
    })  # fmt: skip
    encoder = create("timm", **options)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # timm starts the last norm of a residual branch at 0, which hides the branch
    model = ContrastiveModel(encoder, Heads(settings, encoder.output_shape[-1], 12, torch.zeros(12), torch.ones(12)), settings)
    model.thaw()
    model.train()
    plain_loss, plain = gradients(plain_step, model, batch)
    cached_loss, cached = gradients(cached_step, model, batch, clips)
    assert plain.keys() == cached.keys()
    assert {"heads.log_temperature", "heads.visual.weight", "heads.audio.weight", "encoder.network.conv1.weight"} & plain.keys() > {
        "heads.log_temperature"
    }
    torch.testing.assert_close(cached_loss, plain_loss, rtol=1e-5, atol=1e-6)
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(cached[name], gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max()), msg=name)


class Dropping(nn.Module):
    """A network with output that depends on the random state; it records how many clips it got at a time."""

    def __init__(self):
        super().__init__()
        self.visual, self.audio, self.dropout = nn.Linear(48, 6), nn.Linear(12, 6), nn.Dropout(0.5)
        self.seen: list[int] = []

    def forward(self, frames, owner, audio):
        self.seen.append(len(audio))
        pixels = self.dropout(frames[:, :, ::8, ::8].flatten(1))
        clips = torch.zeros(len(audio), 48).index_add(0, owner, pixels)
        return normalize(self.visual(clips), dim=1), normalize(self.audio(self.dropout(audio)), dim=1), torch.tensor(0.2)


def test_dropout_draws_the_same_in_both_passes_and_few_clips_are_held_at_a_time(batch):
    model = Dropping()
    torch.manual_seed(7)
    loss, cached = gradients(cached_step, model, batch, 2)
    after = torch.get_rng_state()
    torch.manual_seed(7)
    direct = copy.deepcopy(model)
    outputs = [direct(*(lambda part: (part.frames, part.owner, part.audio))(batch.part(start, start + 2))) for start in (0, 2, 4)]
    expected = info_nce(*(torch.cat([part[which] for part in outputs]) for which in (0, 1)), 0.2, groups=batch.groups, symmetric=True)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, parameter in direct.named_parameters():
        torch.testing.assert_close(cached[name], parameter.grad, rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), after)  # the second pass leaves no trace
    assert max(direct.seen) == 2


def test_a_loss_that_is_not_finite_leaves_no_gradient(batch):
    batch.audio[3, 0] = torch.nan
    for step, arguments in ((plain_step, ()), (cached_step, (2,))):
        loss, found = gradients(step, Dropping(), batch, *arguments)
        assert not torch.isfinite(loss)
        assert not found
