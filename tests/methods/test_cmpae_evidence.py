"""Evidence and the mutual loss against numbers worked out by hand, and gradients against differences of a restatement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.methods.cmpae.evidence import GlobalEvidence, mutual_loss, opinion

pytestmark = pytest.mark.processor


def test_an_opinion_is_the_share_of_evidence_and_no_logit_counts_for_more_than_ten():
    p, u = opinion(torch.tensor([0.0, 0.8, 50.0], dtype=torch.float64), torch.tensor([0.0, 0.0, -50.0], dtype=torch.float64))
    most, least = math.exp(12.5) + 1, math.exp(-12.5) + 1
    assert p.tolist() == pytest.approx([0.5, (math.e + 1) / (math.e + 3), most / (most + least)], abs=1e-15)
    assert u.tolist() == pytest.approx([0.5, 2 / (math.e + 3), 2 / (most + least)], abs=1e-15)


def test_the_clip_is_uncertain_where_all_evidence_is_small():
    head = GlobalEvidence(4, 3).double()
    for parameter in head.classifier.parameters():
        torch.nn.init.zeros_(parameter)
    p, u = head(torch.randn(2, 5, 4).double(), torch.randn(2, 5, 4).double(), torch.ones(2, 5, dtype=torch.bool))
    assert torch.equal(p, torch.full_like(p, 0.5))
    assert u.tolist() == [[0.5], [0.5]]  # evidence 1 in each class
    torch.nn.init.constant_(head.classifier.bias, -9.0)
    assert head(torch.randn(2, 5, 4).double(), torch.randn(2, 5, 4).double(), torch.ones(2, 5, dtype=torch.bool))[1].min() > 0.9999


def restated(values, frozen, labels, into_clip):
    """The mutual loss of one clip by loops; values without gradient come from ``frozen``. Values: p_a, u_a, p_v, u_v, P (C,), u."""
    p_a, u_a, p_v, u_v, whole, u = values
    c_a, _, c_v, _, c_whole, _ = frozen
    total, share = 0.0, max(u[0], 0.9)
    for c, y in enumerate(labels):
        surer = c_a[c] >= c_v[c]
        u_max, p_max, p_mean = (u_a[c] if surer else u_v[c]), (p_a[c] if surer else p_v[c]), (p_a[c] + p_v[c]) / 2
        of_clip = whole[c]
        if into_clip:
            p_max, p_mean = (c_a[c] if surer else c_v[c]), (c_a[c] + c_v[c]) / 2
        else:
            of_clip = c_whole[c]
        gap = (1 - u_max) * (of_clip - p_max) ** 2 * y + (1 - (u_a[c] + u_v[c]) / 2) * (of_clip - p_mean) ** 2 * (1 - y)
        total += (share if into_clip else 1 - share) * gap
    return total / len(labels)


@pytest.mark.parametrize("into_clip", [True, False])
@pytest.mark.parametrize("uncertainty", [0.4, 0.95])
def test_gradients_of_the_mutual_loss(into_clip, uncertainty):
    """Central differences of the restatement in float64, with its detached parts fixed; a second clip of padding adds nothing."""
    generator = np.random.default_rng(0)
    labels = np.array([1.0, 0, 1, 0])
    values = [generator.uniform(0.1, 0.9, 4) for _ in range(5)] + [np.array([uncertainty])]
    tensors = [torch.tensor(np.stack([part, np.full_like(part, 0.3)]), requires_grad=True) for part in values]
    loss = mutual_loss(
        (tensors[0], tensors[1]), (tensors[2], tensors[3]), (tensors[4], tensors[5]), torch.tensor(np.stack([labels, 1 - labels])),
        torch.tensor([True, False]), into_clip,
    )  # fmt: skip
    assert loss.item() == pytest.approx(restated(values, values, labels, into_clip), abs=1e-14)
    loss.backward()
    for number, part in enumerate(values):
        for position in range(len(part)):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [other.copy() for other in values]
                moved[number][position] += step
                ends.append(restated(moved, values, labels, into_clip))
            gradient = tensors[number].grad
            found = 0.0 if gradient is None else gradient[0, position].item()
            assert found == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-9), (number, position)
            assert gradient is None or gradient[1].abs().max() == 0
