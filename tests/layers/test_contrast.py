"""Background-event contrast against a float64 restatement in explicit loops, and its gradient against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.layers.contrast import background_event_contrast

T = 4
EVENTS = {"none": [0, 0, 0, 0], "one": [0, 1, 0, 0], "some": [0, 1, 1, 1], "all": [1, 1, 1, 1]}


def loops(query: np.ndarray, key: np.ndarray, event: np.ndarray, mask: np.ndarray, temperature: float) -> float:
    """Eq. 7, one clip, row and positive at a time."""
    losses = []
    for q, k, is_event, is_valid in zip(query, key, event, mask, strict=True):
        valid = [t for t in range(len(q)) if is_valid[t]]
        rows = [(t, q[t] / np.linalg.norm(q[t])) for t in valid] + [(t, k[t] / np.linalg.norm(k[t])) for t in valid]
        for i, (segment, row) in enumerate(rows):
            others = [j for j in range(len(rows)) if j != i]
            if is_event[segment]:
                positives = [j for j in others if is_event[rows[j][0]]]
                assert len(positives) == 2 * sum(bool(is_event[t]) for t in valid) - 1
            else:
                positives = [j for j in others if rows[j][0] == segment]
                assert len(positives) == 1
            denominator = math.fsum(math.exp(float(row @ rows[j][1]) / temperature) for j in others)
            ratio = math.fsum(math.exp(float(row @ rows[j][1]) / temperature) / denominator for j in positives) / len(positives)
            losses.append(-math.log(ratio))
    return math.fsum(losses) / len(losses)


def rows(clips: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(clips, T, 3, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("events", EVENTS)
def test_value_equals_the_loops(events, temperature):
    query, key = rows(2)
    event = torch.tensor([EVENTS[events], EVENTS["some"]], dtype=torch.bool)
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    expected = loops(query.numpy(), key.numpy(), event.numpy(), mask.numpy(), temperature)
    got = background_event_contrast(query, key, event, mask, temperature)
    assert got.item() == pytest.approx(expected, rel=1e-10)


def test_two_segments_by_hand():
    """One event, one background, identical twins, rows orthogonal: the one positive has exp(1/tau) of exp(1/tau) + 2."""
    query = torch.eye(2, dtype=torch.float64).unsqueeze(0)
    got = background_event_contrast(query, query.clone(), torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool), 1.0)
    assert got.item() == pytest.approx(math.log(1 + 2 / math.e), rel=1e-12)


@pytest.mark.parametrize("events", EVENTS)
def test_gradient_equals_finite_differences(events):
    query, key = (tensor.requires_grad_() for tensor in rows(1))
    event, mask = torch.tensor([EVENTS[events]], dtype=torch.bool), torch.tensor([[True, True, True, False]])
    assert torch.autograd.gradcheck(lambda q, k: background_event_contrast(q, k, event, mask, 0.2), (query, key))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("events", EVENTS)
def test_finite_at_the_released_temperature(events, dtype):
    """Equal rows have similarity 1: exp(1 / 0.01) is infinite in float32."""
    assert torch.tensor(1 / 0.01).exp().isinf()
    query = torch.ones(2, T, 3, dtype=dtype, requires_grad=True)
    event, mask = torch.tensor([EVENTS[events]] * 2, dtype=torch.bool), torch.tensor([[True] * 4, [False] * 4])
    loss = background_event_contrast(query, torch.ones(2, T, 3, dtype=dtype), event, mask, 0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2 * T - 1), rel=1e-5)  # every candidate alike
    assert query.grad.isfinite().all()


def test_float32_close_to_float64_at_the_released_temperature():
    query, key = rows(3)
    event, mask = torch.tensor([[0, 1, 1, 0]] * 3, dtype=torch.bool), torch.ones(3, T, dtype=torch.bool)
    exact = background_event_contrast(query, key, event, mask, 0.01)
    single = background_event_contrast(query.float(), key.float(), event, mask, 0.01)
    assert single.item() == pytest.approx(exact.item(), rel=1e-5)


def test_nothing_but_padding_is_zero():
    query, key = rows(1)
    mask = torch.zeros(1, T, dtype=torch.bool)
    assert background_event_contrast(query, key, mask, mask, 0.01) == 0
