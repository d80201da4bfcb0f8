"""LIF neurons against a simulation by hand, one neuron and step at a time, and the surrogate gradient against the chain rule on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.methods.cace_net.spiking import Spike, SpikingSegments

pytestmark = pytest.mark.processor


def layer(steps, time_constant, weight=((1.0,),), bias=None):
    built = SpikingSegments(len(weight[0]), len(weight), steps, time_constant).double()
    with torch.no_grad():
        built.current.weight.copy_(torch.tensor(weight))
        built.current.bias.copy_(torch.zeros(len(weight)) if bias is None else torch.tensor(bias))
    return built


def run(built, segments):
    """(T, D) of one clip without padding -> (T, N)."""
    features = torch.tensor(segments, dtype=torch.float64).unsqueeze(0)
    return built(features, torch.ones(1, len(segments), dtype=torch.bool))[0]


def test_a_neuron_on_paper():
    """Decay 1/2. Current 0.6: 0.6, 0.9, 1.05 spike, 0.6; the next segment, 0.7, goes on from there: 1.0 spike, 0.7, 1.05 spike, 0.7."""
    rates = run(layer(4, 1 / math.log(2)), [[0.6], [0.7 + 1e-12]])
    assert rates.tolist() == [[0.25], [0.5]]


def test_without_the_membrane_of_the_segment_before_nothing_would_spike():
    built = layer(3, 1 / math.log(2))
    assert run(built, [[0.5], [0.55]]).flatten().tolist() == pytest.approx([0, 1 / 3])  # 0.5, 0.75, 0.875; then 0.9875, 1.04375 spike, 0.55
    assert run(built, [[0.55]]).tolist() == [[0.0]]  # 0.55, 0.825, 0.9625


def simulated(weight, bias, segments, steps, decay):
    rates = []
    membrane = [0.0] * len(bias)
    for segment in segments:
        counts = [0] * len(bias)
        for _ in range(steps):
            for neuron, (row, offset) in enumerate(zip(weight, bias, strict=True)):
                membrane[neuron] = decay * membrane[neuron] + sum(w * x for w, x in zip(row, segment, strict=True)) + offset
                if membrane[neuron] >= 1:
                    counts[neuron] += 1
                    membrane[neuron] = 0.0
        rates.append([count / steps for count in counts])
    return np.array(rates)


@pytest.mark.parametrize("time_constant", [2.0, 15.0])
def test_rates_equal_the_simulation_and_padding_is_silent(time_constant):
    generator = np.random.default_rng(0)
    weight, bias, features = generator.normal(0, 0.4, (6, 3)), generator.normal(0, 0.2, 6), generator.normal(0, 1, (2, 5, 3))
    built = layer(15, time_constant, weight.tolist(), bias.tolist())
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    rates = built(torch.from_numpy(features), mask).detach().numpy()
    expected = [
        simulated(weight, bias, clip[:length], 15, math.exp(-1 / time_constant)) for clip, length in zip(features, (5, 3), strict=True)
    ]
    assert 0 < np.mean(expected[0] > 0) < 1  # some neurons fire and some do not
    np.testing.assert_allclose(rates[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(rates[1, :3], expected[1], atol=1e-12)
    assert (rates[1, 3:] == 0).all()


def test_the_surrogate_is_the_derivative_of_the_arc_tangent():
    distance = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    spikes = Spike.apply(distance)
    assert spikes.tolist() == [0.0] * 4 + [1.0] * 5
    spikes.sum().backward()
    smooth = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    (torch.atan(math.pi * smooth) / math.pi + 0.5).sum().backward()
    torch.testing.assert_close(distance.grad, smooth.grad)


def test_gradient_on_paper():
    """Two steps worked out by hand.

    Decay d, weight w, input x, no bias. Without a spike: u1 = wx, u2 = (d + 1) wx; the rate's slope in w is
    (s(u1 - 1) x + s(u2 - 1)(d + 1) x) / 2. A spike at the first step resets it: u2 = wx, and the path through u1 is cut.
    """
    decay = 0.5

    def slope(distance):
        return 1 / (1 + (math.pi * distance) ** 2)

    for weight, x, expected in [
        (0.3, 2.0, (slope(0.6 - 1) * 2 + slope(0.9 - 1) * 1.5 * 2) / 2),
        (0.7, 2.0, (slope(1.4 - 1) * 2 + slope(1.4 - 1) * 2) / 2),
    ]:
        built = layer(2, 1 / math.log(1 / decay), ((weight,),))
        run(built, [[x]]).sum().backward()
        assert built.current.weight.grad.item() == pytest.approx(expected, rel=1e-6)
