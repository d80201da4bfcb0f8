"""Dropout of maps: its rate, its scale, its independence, its gradient."""

from __future__ import annotations

import pytest
import torch

from pipeline.layers.map_dropout import LEVELS, MapDropout

pytestmark = pytest.mark.processor


def draw(probability: float, *shape: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return MapDropout(probability).train()(torch.ones(shape, dtype=dtype))


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5, 0.93])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_share_and_the_scale_of_what_is_kept(probability, dtype):
    output = draw(probability, 1000, 401, dtype=dtype)
    kept = output != 0
    rounded = round(probability * LEVELS) / LEVELS
    assert abs(rounded - probability) <= 0.5 / LEVELS
    torch.testing.assert_close(output[kept], torch.full_like(output[kept], 1 / (1 - rounded)))
    deviation = (probability * (1 - probability) / output.numel()) ** 0.5
    assert abs(kept.double().mean().item() - (1 - probability)) < 5 * deviation


def test_elements_are_dropped_independently():
    """No correlation within a draw (neighbours up to three apart), across rows, between calls, or with the place in a draw."""
    dropped = (draw(0.2, 1001, 401) == 0).double()
    flat = dropped.flatten()
    for step in (1, 2, 3, 4, 401):
        assert abs(torch.corrcoef(torch.stack([flat[step:], flat[:-step]]))[0, 1]) < 5 / flat.numel() ** 0.5
    for place in range(4):
        lane = flat[place::4]
        assert abs(lane.mean().item() - 0.2) < 5 * (0.16 / lane.numel()) ** 0.5
    again = MapDropout(0.2).train()(torch.ones_like(dropped))
    assert abs(torch.corrcoef(torch.stack([flat, (again == 0).double().flatten()]))[0, 1]) < 5 / flat.numel() ** 0.5


def test_the_gradient_is_the_mask():
    torch.manual_seed(0)
    features = torch.randn(7, 3, 5, dtype=torch.float64, requires_grad=True)
    output = MapDropout(0.3).train()(features)
    output.sum().backward()
    assert 0 < (features.grad == 0).sum() < features.numel()
    torch.testing.assert_close(features.grad * features.detach(), output.detach())


def test_the_seed_decides_and_the_shape_is_kept():
    for shape in ((), (1,), (2, 3), (3, 5, 7)):
        first, second, other = draw(0.5, *shape), draw(0.5, *shape), draw(0.5, *shape, seed=1)
        assert first.shape == shape
        assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("probability", [0.0, 0.005, 0.2, 1.0])
def test_evaluation_and_the_ends_are_torchs(probability):
    features = torch.randn(4, 5)
    assert torch.equal(MapDropout(probability).eval()(features), features)
    if probability != 0.2:
        torch.manual_seed(0)
        expected = torch.nn.functional.dropout(features, probability)
        torch.manual_seed(0)
        assert torch.equal(MapDropout(probability).train()(features), expected)


def test_bfloat16():
    output = MapDropout(0.25).train()(torch.ones(100, 100, dtype=torch.bfloat16))
    assert output.dtype == torch.bfloat16
    assert set(output.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).bfloat16().item()}
