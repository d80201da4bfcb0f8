"""Event against background segments: value against explicit loops, gradient against finite differences, and what the weights prefer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.methods.ccln.foreground_enhancement import foreground_enhancement

pytestmark = pytest.mark.processor

EVENTS = torch.tensor([[0, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]], dtype=torch.bool)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], dtype=torch.bool)  # the last: no background
SETTINGS = {"margin": 1.2, "temperature": 0.3, "reach": 1.5}


def features() -> torch.Tensor:
    return torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def pairs_of(clip: int) -> list[tuple[int, int]]:
    valid = [t for t in range(5) if MASK[clip, t]]
    return [(i, j) for i in valid if EVENTS[clip, i] for j in valid if not EVENTS[clip, j]]


def loops(rows: np.ndarray, margin: float, temperature: float, reach: float) -> float:
    """One pair at a time."""
    losses = []
    for clip in range(4):
        weighted, total = 0.0, 0.0
        for i, j in pairs_of(clip):
            one, other = rows[clip, i], rows[clip, j]
            distance = 1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            weight = math.exp(-distance / temperature - (abs(i - j) - 1) / reach)
            weighted, total = weighted + weight * max(0.0, margin - distance), total + weight
        if total:
            losses.append(weighted / total)
    assert len(losses) == 2
    return sum(losses) / 2


@pytest.mark.parametrize("margin", [0.5, 1.2, 2.0])
def test_value_equals_the_loops(margin):
    settings = {**SETTINGS, "margin": margin}
    got = foreground_enhancement(features(), EVENTS, MASK, **settings)
    assert got.item() == pytest.approx(loops(features().numpy(), **settings), rel=1e-10)
    assert got.item() > 0


def test_the_weights_are_constants_to_the_gradient():
    """Against the gradient of the same sum, pair by pair, with the weights held where they are."""
    rows = features().requires_grad_()
    foreground_enhancement(rows, EVENTS, MASK, **SETTINGS).backward()
    start = features()
    unit = torch.nn.functional.normalize(start, dim=-1)
    place = torch.arange(5)
    beyond = ((place[:, None] - place).abs() - 1).double()
    held = []
    for clip in (0, 1):
        raw = torch.stack([(unit[clip, i] @ unit[clip, j] - 1) / 0.3 - beyond[i, j] / 1.5 for i, j in pairs_of(clip)])
        held.append(raw.exp() / raw.exp().sum())

    def loss(x):
        total = 0.0
        for clip, weights in zip((0, 1), held, strict=True):
            for weight, (i, j) in zip(weights, pairs_of(clip), strict=True):
                total += weight * torch.relu(1.2 - 1 + torch.cosine_similarity(x[clip, i], x[clip, j], dim=0))
        return total / 2

    expected = torch.autograd.functional.jacobian(loss, start)
    torch.testing.assert_close(rows.grad, expected, atol=1e-10, rtol=1e-8)
    assert not rows.grad[2:].any()  # clips of one kind alone


def test_pairs_at_the_boundary_and_pairs_alike_weigh_most():
    """Background, event, event: equal similarities, the neighbour wins by exp(1 / reach); then the far pair alike, and it wins."""
    event, mask = torch.tensor([[False, True, True]]), torch.ones(1, 3, dtype=torch.bool)
    rows = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.5, -0.5]]], dtype=torch.float64, requires_grad=True)
    foreground_enhancement(rows, event, mask, margin=1.0, temperature=1.0, reach=0.5).backward()
    near, far = rows.grad[0, 1].norm(), rows.grad[0, 2].norm()
    assert (near / far).item() == pytest.approx(math.exp(2))
    alike = torch.tensor([[[1.0, 0.0], [0.2, 1.0], [0.9, -0.1]]], dtype=torch.float64, requires_grad=True)
    for temperature, wins in ((0.05, True), (100.0, False)):
        alike.grad = None
        loss = foreground_enhancement(alike, event, mask, margin=1.0, temperature=temperature, reach=0.5)
        share = (loss.item() - 0.2 / math.hypot(0.2, 1)) / (0.9 / math.hypot(0.9, 0.1) - 0.2 / math.hypot(0.2, 1))  # of the far pair
        assert (share > 0.5) == wins


def test_without_both_kinds_zero():
    for event in (torch.zeros_like(EVENTS), torch.ones_like(EVENTS)):
        assert foreground_enhancement(features(), event, MASK, **SETTINGS).item() == 0
