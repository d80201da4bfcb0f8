"""Track exchange: unrelated partners, error rates per class, and the labels found absent."""

from __future__ import annotations

import pytest
import torch

from pipeline.methods.ma.track_exchange import PART, Exchanged, mistaken, not_shown, unrelated

pytestmark = pytest.mark.processor


def test_partners_share_no_class_and_at_least_a_segment():
    generator = torch.Generator().manual_seed(0)
    clips = PART + 40
    labels = torch.rand(clips, 4, generator=generator) < 0.3
    labels[:, 3] |= ~labels.any(dim=1) & (torch.arange(clips) > 5)  # the first clips may be without a class
    labels[7] = True
    mask = torch.arange(6) < torch.randint(1, 7, (clips, 1), generator=generator)
    mask[9] = False
    mask[11] = torch.arange(6) == 5  # only with clips of full length
    torch.manual_seed(0)
    partners = unrelated(labels, mask)
    assert not labels[partners[7]].any()
    assert partners[9] == -1
    drawn = [n for n in range(clips) if partners[n] >= 0]
    assert len(drawn) > clips - 20
    assert not labels[:6].any(dim=1).all()
    for n in drawn:
        other = int(partners[n])
        assert other != n
        assert not (labels[n] & labels[other]).any()
        assert (mask[n] & mask[other]).any()
    assert mask[partners[11]].all()


def test_every_unrelated_clip_is_drawn():
    labels = torch.tensor([[1, 0], [0, 1], [0, 1], [0, 1], [1, 1]], dtype=torch.bool)
    torch.manual_seed(0)
    draws = torch.stack([unrelated(labels, torch.ones(5, 2, dtype=torch.bool)) for _ in range(60)])
    assert set(draws[:, 0].tolist()) == {1, 2, 3}
    assert set(draws[:, 1].tolist()) == {0}
    assert set(draws[:, 4].tolist()) == {-1}


def test_mistakes_are_relative_to_the_class_of_most():
    labels = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=torch.bool)
    probability = torch.tensor([[0.9, 0.6, 0.2], [0.5, 0.1, 0.2], [0.8, 0.7, 0.2], [0.1, 0.9, 0.9]])  # 0.5 is not said
    assert mistaken(probability, labels).tolist() == [0.0, 0.25, 1.0]
    assert mistaken(labels.float(), labels).tolist() == [0.0, 0.0, 0.0]


def test_a_label_is_absent_where_both_probabilities_are_low():
    limits = (torch.tensor([1.0, 1.0, 0.5, 0.0]), torch.tensor([1.0, 0.8, 1.0, 0.0]))
    said = Exchanged(torch.tensor([[0.49, 0.1, 0.3, 0.0]]), torch.tensor([[0.49, 0.39, 0.1, 0.0]]))
    assert not_shown(said, limits).tolist() == [[True, True, False, False]]  # a class without errors loses no label
    assert not_shown(Exchanged(said.audio, said.visual + 0.1), limits).tolist() == [[False, False, False, False]]
