"""Losses of clips, pooling by gates, and what the two heads share."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.layers.multiple_instance import gated_clip_logits, video_loss

pytestmark = pytest.mark.processor


def test_the_clips_logits_by_hand():
    """max_t(g_t r): the most open gate where r > 0, the most closed one where r < 0; padding has no gate."""
    gate = torch.tensor([[0.2, 0.5, 1.0], [1.0, 0.1, 0.4]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    pooled = gated_clip_logits(gate, torch.tensor([[2.0, -2.0], [-1.0, 3.0]]), mask)
    torch.testing.assert_close(pooled, torch.tensor([[1.0, -0.4], [-0.1, 3.0]]))


def test_video_losses_equal_torchs_own():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[[0, 3, 1, 1, 2]]
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(video_loss(logits, labels, "cross_entropy"), expected)
    soft_margin = torch.nn.MultiLabelSoftMarginLoss(reduction="none")(logits.softmax(-1), labels)
    torch.testing.assert_close(video_loss(logits, labels, "soft_margin"), soft_margin)
    shares = torch.rand(5, 4, dtype=torch.float64)
    shares = shares / shares.sum(1, keepdim=True)
    for truth in (labels, shares):
        binary = torch.nn.functional.binary_cross_entropy(logits.softmax(-1), truth, reduction="none").mean(-1)
        torch.testing.assert_close(video_loss(logits, truth, "binary"), binary)


def test_two_classes_share_a_clip():
    logits = torch.tensor([[1.0, 2.0, -1.0]])
    probabilities = logits.softmax(-1)[0]
    loss = video_loss(logits, torch.tensor([[1.0, 1.0, 0.0]]), "cross_entropy")
    assert loss.item() == pytest.approx(-(math.log(probabilities[0]) + math.log(probabilities[1])) / 2)


@pytest.mark.parametrize("form", ["cross_entropy", "soft_margin", "binary"])
def test_video_losses_of_extreme_logits_are_finite(form):
    logits = torch.tensor([[80.0, -80.0, 0.0], [-80.0, 80.0, 80.0]], requires_grad=True)
    loss = video_loss(logits, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), form).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
