"""Retrieval between two sets of embeddings, and the effective rank of features.

N items, D width, C columns.
"""

from __future__ import annotations

import numpy as np

CUTOFFS = (1, 5, 10)


def retrieval_ranks(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Rank, from 1, of each query's own key among all N by dot product, (N,).

    A key that ties with the own one ranks before it, so embeddings that collapsed into one point rank last, not first.

    Args:
        queries, keys: (N, D), in the same order of items.
    """
    similarity = np.asarray(queries, np.float64) @ np.asarray(keys, np.float64).T
    own = similarity.diagonal()[:, None]
    return (similarity >= own).sum(axis=1)


def retrieval_metrics(visual: np.ndarray, audio: np.ndarray) -> dict[str, float]:
    """Recalls ``v2a/recall@K``, ``a2v/recall@K`` in percent (K = 1, 5, 10), and ``v2a/median_rank``, ``a2v/median_rank`` (1 is best).

    Args:
        visual, audio: (N, D), in the same order of clips, N > 0.
    """
    metrics: dict[str, float] = {}
    for name, ranks in (("v2a", retrieval_ranks(visual, audio)), ("a2v", retrieval_ranks(audio, visual))):
        metrics |= {f"{name}/recall@{cutoff}": 100 * float((ranks <= cutoff).mean()) for cutoff in CUTOFFS}
        metrics[f"{name}/median_rank"] = float(np.median(ranks))
    return metrics


def mean_recall(metrics: dict[str, float]) -> float:
    """Mean of the six recalls of :func:`retrieval_metrics`, in percent: with few clips, finer than a single recall."""
    return float(np.mean([metrics[f"{direction}/recall@{cutoff}"] for direction in ("v2a", "a2v") for cutoff in CUTOFFS]))


def effective_rank(features: np.ndarray) -> float:
    """Effective rank (Roy & Vetterli, EUSIPCO 2007), in [1, min(N, C)]; 0 for zeros.

    It is exp of the entropy of the singular values, normalised to sum 1.

    Args:
        features: (N, C); centre them first to see how many directions their differences span.
    """
    values = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    if values.sum() == 0:
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
