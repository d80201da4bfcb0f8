"""Retrieval counted by hand, and matrices whose effective rank is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.retrieval import effective_rank, mean_recall, retrieval_metrics, retrieval_ranks


def test_ranks_by_hand():
    queries = np.array([[1.0, 0], [0, 1], [1, 1]])
    keys = np.array([[2.0, 0], [3, 1], [0, 9]])
    # scores: (2, 3, 0), (0, 1, 9), (2, 4, 9); own: 2, 1, 9
    assert list(retrieval_ranks(queries, keys)) == [2, 2, 1]
    # keys asking: (2, 0, 2), (3, 1, 4), (0, 9, 9); a tie stands before the own one
    assert list(retrieval_ranks(keys, queries)) == [2, 3, 2]


def test_recalls_by_a_plain_sort():
    random = np.random.default_rng(0)
    visual = random.normal(size=(23, 5))
    audio = visual + random.normal(size=(23, 5))
    metrics = retrieval_metrics(visual, audio)
    for name, queries, keys in (("v2a", visual, audio), ("a2v", audio, visual)):
        ranks = []
        for number, query in enumerate(queries):
            order = sorted(range(23), key=lambda other: -float(query @ keys[other]))
            ranks.append(order.index(number) + 1)
        for cutoff in (1, 5, 10):
            assert metrics[f"{name}/recall@{cutoff}"] == pytest.approx(100 * sum(rank <= cutoff for rank in ranks) / 23)
        assert metrics[f"{name}/median_rank"] == sorted(ranks)[11]
    assert 0 < metrics["v2a/recall@1"] < 100
    recalls = [metrics[f"{name}/recall@{cutoff}"] for name in ("v2a", "a2v") for cutoff in (1, 5, 10)]
    assert mean_recall(metrics) == pytest.approx(sum(recalls) / 6)


def test_perfect_and_collapsed():
    perfect = retrieval_metrics(np.eye(12), np.eye(12))
    assert (perfect["v2a/recall@1"], perfect["a2v/median_rank"], mean_recall(perfect)) == (100, 1, 100)
    collapsed = retrieval_metrics(np.ones((12, 3)), np.ones((12, 3)))
    assert (collapsed["v2a/recall@10"], collapsed["a2v/median_rank"]) == (0, 12)


def test_effective_rank_of_known_matrices():
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))[0]
    assert effective_rank(rotation) == pytest.approx(9)
    assert effective_rank(rotation[:, :4] @ rotation[:4]) == pytest.approx(4)
    assert effective_rank(np.outer(np.arange(5.0), np.ones(3))) == pytest.approx(1)
    assert effective_rank(np.zeros((4, 2))) == 0
    # singular values 3 and 1: shares 3/4 and 1/4
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)
