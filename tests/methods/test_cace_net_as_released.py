"""The benchmark's reference is the same computation as the registered method, released variant, faithful gate loss."""

from __future__ import annotations

import torch
from flat_gradients import assert_all_but_flat

from pipeline.batch import Batch
from pipeline.methods import Progress, create
from pipeline.tasks.avel import AvelTargets
from tests.methods.cace_net_as_released import CaceNetAsReleased, pairs

WIDTHS = {"attention_width": 5, "width": 8, "intra_feedforward": 7, "cross_feedforward": 9}
NO_DROPOUT = {"input_dropout": 0.0, "dropout": 0.0, "interaction_dropout": 0.0}
CLASSES, SHAPE = 3, (4, 6)  # B, T


def both(epoch: int):
    """Totals of the reference and of the method, their parameters, the method; after backward passes in float64 on the same noise."""
    torch.manual_seed(3)
    method = create(
        "cace_net", visual_shape=(2, 3, 12), audio_shape=(6,), num_classes=CLASSES, gate_loss="faithful", visual_hidden=10,
        audio_hidden=6, **WIDTHS, **NO_DROPOUT,
    ).double().train()  # fmt: skip
    reference = CaceNetAsReleased(12, 6, CLASSES, visual=10, dropout=False, **WIDTHS).double().train()
    with torch.no_grad():
        for ours, theirs in pairs(reference, method):
            theirs.uniform_(-0.6, 0.6)
            ours.copy_(theirs)
    video = torch.tensor([0, 2, CLASSES, 1])  # the third clip has no event
    event = torch.rand(SHAPE) < 0.5
    event[:, 0], event[:, 1] = True, False
    targets = AvelTargets(torch.where(event, video[:, None], CLASSES), video)
    batch = Batch(torch.randn(*SHAPE, 2, 3, 12).double(), torch.randn(*SHAPE, 6).double(), torch.ones(SHAPE, dtype=torch.bool))
    totals = []
    for network in (reference, method):
        torch.manual_seed(5)
        totals.append(network.losses(batch, targets, Progress(epoch, 80))["total"])
        totals[-1].backward()
    return *totals, pairs(reference, method), method


def test_loss_and_gradients_equal_the_registered_methods():
    for epoch in (0, 10):  # before and after the contrast is switched on
        ours, theirs, parameters, method = both(epoch)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
        for one, other in parameters:
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-7)
    assert_all_but_flat(method, {name: parameter.grad for name, parameter in method.named_parameters()})
    assert sum(one.numel() for one, _ in parameters) == sum(
        p.numel() for p in CaceNetAsReleased(12, 6, CLASSES, visual=10, **WIDTHS).parameters()
    )


def test_it_has_the_live_parameters_of_the_published_network():
    assert sum(parameter.numel() for parameter in CaceNetAsReleased(512, 128, 28).parameters()) == 9_283_417


def test_dropout_is_as_the_methods():
    """Every rate, by the modules: the reference with dropout has as many of each rate as the method at its defaults."""

    def rates(network):
        modules = list(network.modules())
        plain = [module.p for module in modules if isinstance(module, torch.nn.Dropout)]
        return set(plain), sorted(module.dropout for module in modules if isinstance(module, torch.nn.MultiheadAttention))

    method = create("cace_net", visual_shape=(7, 7, 512), audio_shape=(128,), num_classes=28)
    assert rates(CaceNetAsReleased(512, 128, 28)) == rates(method) == ({0.1, 0.2}, [0.1] * 6 + [0.2] * 2)
