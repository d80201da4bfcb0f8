"""InfoNCE across modalities under video-level labels against explicit loops, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.methods.ccln.video_contrast import video_contrast

pytestmark = pytest.mark.processor

LABELS = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1]])  # clip 3 has no event, clip 4 two classes


def rows(clips: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(clips, 4, generator=generator, dtype=torch.float64) for _ in range(2))


def loops(visual, audio, labels, known, temperature):
    """One anchor, direction and positive at a time."""
    clips = [i for i in range(len(visual)) if known[i]]
    unit = [{i: x[i] / np.linalg.norm(x[i]) for i in clips} for x in (visual, audio)]
    losses = []
    for i in clips:
        positives = [p for p in clips if any(a and b for a, b in zip(labels[i], labels[p], strict=True))]
        if not positives:
            continue
        both = 0.0
        for asking, asked in (unit, unit[::-1]):
            total = sum(math.exp(asking[i] @ asked[j] / temperature) for j in clips)
            both -= sum(math.log(math.exp(asking[i] @ asked[p] / temperature) / total) for p in positives) / len(positives)
        losses.append(both / 2)
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("known", [[True] * 6, [True, False, True, True, True, True], [False, True, False, False, False, False]])
def test_value_equals_the_loops(known, temperature):
    visual, audio = rows()
    expected = loops(visual.numpy(), audio.numpy(), LABELS.tolist(), known, temperature)
    got = video_contrast(visual, audio, LABELS, torch.tensor(known), temperature)
    assert got.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert (expected > 0) == (sum(known) > 1)


def test_two_classes_by_hand():
    """Each clip its own axis in both modalities: exp(1) of exp(1) + 1, in both directions."""
    eye = torch.eye(2, dtype=torch.float64)
    got = video_contrast(3 * eye, eye / 7, torch.eye(2), torch.ones(2, dtype=torch.bool), 1.0)
    assert got.item() == pytest.approx(math.log(1 + 1 / math.e), rel=1e-12)


def test_clips_of_one_class_are_not_pushed_apart_more_than_they_are_drawn_together():
    """All positive and all alike: log B, the least there is, with no gradient."""
    visual = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    loss = video_contrast(visual, torch.ones(3, 4, dtype=torch.float64), torch.ones(3, 1), torch.ones(3, dtype=torch.bool), 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    torch.testing.assert_close(visual.grad, torch.zeros(3, 4, dtype=torch.float64))


def test_gradient_against_finite_differences():
    visual, audio = (row.requires_grad_() for row in rows())
    known = torch.tensor([True, True, True, True, True, False])
    assert torch.autograd.gradcheck(lambda v, a: video_contrast(v, a, LABELS, known, 0.3), (visual, audio))


@pytest.mark.parametrize("known", [[True, True], [False, False]])
@pytest.mark.fault(32)
def test_a_batch_without_an_event_gives_zero_and_no_gradient(known):
    visual, audio = (row.requires_grad_() for row in rows(2))
    loss = video_contrast(visual, audio, torch.zeros(2, 3), torch.tensor(known), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert not visual.grad.any()
