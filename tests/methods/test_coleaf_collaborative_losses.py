"""Losses between CoLeaF's branches against loops written from the equations, float64; gradients against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.methods.coleaf.collaborative_losses import (
    asymmetric_loss,
    co_occurrence_loss,
    confidence,
    event_aware_contrast,
    reversed_contrast,
    trusted_co_occurrence_loss,
    unaligned_shares,
)  # fmt: skip

pytestmark = pytest.mark.processor

CLIPS, SEGMENTS, CLASSES, WIDTH = 3, 4, 3, 5
LENGTHS = (4, 2, 1)
MASK = torch.arange(SEGMENTS) < torch.tensor(LENGTHS)[:, None]
COUNTED = torch.tensor([True, True, False])


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_gradient(loss, value, restated, tolerance=1e-7):
    """Both at ``value``, and the gradient there against central differences of ``restated``, a function of an array."""
    tracked = value.clone().requires_grad_()
    result = loss(tracked)
    assert result.item() == pytest.approx(restated(value.numpy()), abs=1e-10)
    result.backward()
    expected = np.zeros(value.shape)
    for place in np.ndindex(*value.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = value.numpy().copy()
            moved[place] += step
            ends.append(restated(moved))
        expected[place] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(tracked.grad.numpy(), expected, atol=tolerance, rtol=1e-5)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("positive", [1.0, 0.95])
def test_the_asymmetric_loss_is_a_sum_with_a_margin_and_weights_that_pass_no_gradient(positive):
    target = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 0]], dtype=torch.float64) * positive
    p = draw(CLIPS, CLASSES)
    p[0, 1] = 0.03  # within the margin: costs nothing

    def restated(values):
        fixed, total = p.numpy(), 0.0
        for b in range(2):  # the third does not count
            for c in range(CLASSES):
                y, x, at = target[b, c].item(), values[b, c], fixed[b, c]
                absent = min(1 - x + 0.05, 1)
                p_t = at * y + min(1 - at + 0.05, 1) * (1 - y)
                total -= (1 - p_t) * (y * math.log(x) + (1 - y) * math.log(absent))
        return total

    assert_gradient(lambda x: asymmetric_loss(x, target, COUNTED), p, restated)


def test_shares_count_the_classes_of_one_modality_alone():
    audio = torch.tensor([[0.9, 0.8, 0.5, 0.1], [0.1, 0.2, 0.3, 0.4], [0.9, 0.9, 0.1, 0.1]])
    visual = torch.tensor([[0.6, 0.1, 0.2, 0.7], [0.1, 0.9, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]])
    of_audio, of_visual = unaligned_shares(audio, visual, 0.5)
    # Audio 0, 1, 2, visual 0, 3; no audio; the same both.
    torch.testing.assert_close(of_audio, torch.tensor([2 / 3, 0.0, 0.0]))
    torch.testing.assert_close(of_visual, torch.tensor([1 / 2, 1.0, 0.0]))


def cosines(a, b):
    return (a / np.linalg.norm(a, axis=-1, keepdims=True)) @ (b / np.linalg.norm(b, axis=-1, keepdims=True)).T


SHARE = torch.tensor([0.5, 1.0, 0.7], dtype=torch.float64)


def test_the_contrast_as_printed_leaves_the_positive_out_of_the_denominator():
    anchor, reference = (draw(CLIPS, SEGMENTS, WIDTH, seed=seed) - 0.5 for seed in (1, 2))

    def restated(values):
        clips = []
        for b, length in enumerate(LENGTHS[:2]):
            s = np.exp(cosines(values[b, :length], reference[b, :length].numpy()) / 0.2)
            terms = [math.log(s[t, t] / sum(s[t, n] for n in range(length) if n != t)) for t in range(length)]
            clips.append(-SHARE[b].item() * sum(terms) / length)
        return np.mean(clips)

    assert_gradient(lambda f: event_aware_contrast(f, reference, MASK, SHARE, COUNTED, 0.2), anchor, restated)


def test_a_clip_of_one_segment_has_no_contrast_as_printed():
    tokens = draw(1, SEGMENTS, WIDTH).requires_grad_()
    loss = event_aware_contrast(tokens, draw(1, SEGMENTS, WIDTH, seed=1), MASK[2:], SHARE[2:], COUNTED[:1], 0.2)
    loss.backward()
    assert loss == 0
    assert (tokens.grad == 0).all()


def test_the_contrast_as_released_asks_with_the_reference():
    anchor, reference = (draw(CLIPS, SEGMENTS, WIDTH, seed=seed) - 0.5 for seed in (1, 2))

    def restated(values):
        terms = []
        for b, length in enumerate(LENGTHS):
            s = np.exp(cosines(reference[b, :length].numpy(), values[b, :length]) / 0.2)
            for t in range(length):
                q = s[t] / s[t].sum()
                others = sum(q[n] for n in range(length) if n != t)
                terms.append(-SHARE[b].item() * math.log(0.9 * q[t] + (0.1 / (length - 1) * others if length > 1 else 0)))
        return np.mean(terms)

    assert_gradient(lambda f: reversed_contrast(f, reference, MASK, SHARE, 0.2), anchor, restated)


def test_co_occurrence_as_printed_is_the_mean_square_over_pairs():
    reference, anchor = draw(CLIPS, CLASSES, seed=1), draw(CLIPS, CLASSES, seed=2)

    def restated(p):
        gaps = [
            (reference[b, i].item() * reference[b, j].item() - p[b, i] * p[b, j]) ** 2
            for b in range(2) for i in range(CLASSES) for j in range(CLASSES)
        ]  # fmt: skip
        return np.mean(gaps)

    assert_gradient(lambda p: co_occurrence_loss(reference, p, COUNTED), anchor, restated)


def test_co_occurrence_as_released_is_a_sum_times_the_batch_and_trusts_confident_references():
    reference = torch.tensor([[0.85, 0.5, 0.05], [0.1, 0.8, 0.79], [0.9, 0.9, 0.9]], dtype=torch.float64)
    target = torch.tensor([[1.0, 1, 0.05], [1, 0.95, 1], [1, 1, 1]], dtype=torch.float64)
    trust = confidence(reference, target, 0.8, 0.1)
    assert trust[:2].tolist() == [[1, 0, 0.05], [1, 0.95, 0]]
    anchor = draw(CLIPS, CLASSES, seed=2)

    def restated(p):
        fixed, total = anchor.numpy(), 0.0
        for b in range(2):
            m, r = trust[b].numpy(), reference[b].numpy()
            t = [m[c] * r[c] + (1 - m[c]) * fixed[b, c] for c in range(CLASSES)]
            total += sum((t[i] * t[j] - p[b, i] * p[b, j]) ** 2 for i in range(CLASSES) for j in range(CLASSES))
        return 2 / CLASSES * total

    assert_gradient(lambda p: trusted_co_occurrence_loss(reference, p, trust, COUNTED), anchor, restated)
