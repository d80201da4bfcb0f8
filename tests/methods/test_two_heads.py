"""The two heads of CMRAN and its successors: products and losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.methods.shared.two_heads import class_loss, event_loss, joint_probabilities

pytestmark = pytest.mark.processor


def test_joint_probabilities_by_hand():
    event = torch.tensor([[0.8, 0.0]])
    two = joint_probabilities(event, torch.tensor([[0.75, 0.25]]), 2)
    torch.testing.assert_close(two, torch.tensor([[[0.6, 0.2, 0.2], [0.0, 0.0, 1.0]]]))
    with_background = joint_probabilities(event, torch.tensor([[0.5, 0.25, 0.25]]), 2)
    torch.testing.assert_close(with_background, torch.tensor([[[0.4, 0.2, 0.4], [0.0, 0.0, 1.0]]]))


def test_losses_of_the_two_heads_by_hand():
    logits, event = torch.tensor([[0.0, 2.0]]), torch.tensor([[True, False]])
    mask = torch.tensor([[True, True]])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert event_loss(logits, event, mask).item() == pytest.approx(expected)
    assert event_loss(logits, event, torch.tensor([[True, False]])).item() == pytest.approx(math.log(2))
    classes = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    video = torch.tensor([1, 2])  # the second has no event: class 0
    assert class_loss(classes, video, torch.tensor([True, True])).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert class_loss(classes, video, torch.tensor([True, False])).item() == pytest.approx(math.log(2))
