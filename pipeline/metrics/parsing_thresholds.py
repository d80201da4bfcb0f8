"""Select a parsing method's thresholds on validation.

Those of the clip gate class by class (CMPAE, CVPR 2023, as released), or one pair of a segment's and a clip's for all classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.parsing import Counts, clip_f, event_counts

GATES = tuple(round(0.05 * step - 0.025, 3) for step in range(1, 21))  # .025, .075 ... .975
GRID = tuple(round(0.05 * step, 2) for step in range(5, 15))  # .25, .30 ... .70


def select_thresholds(
    on: NDArray[np.bool_], clip: NDArray[np.floating], fixed: NDArray[np.floating], true: NDArray[np.bool_], grid: Sequence[float] = GRID
) -> NDArray[np.float32]:
    """Select, per class, the threshold with the highest event-level F of one modality; among equals, the highest.

    All other classes stay at ``fixed``. F is that of :mod:`pipeline.metrics.parsing`, where an empty clip counts as perfect. A class
    that is in no clip, or that no threshold lets through, has the same F at all thresholds and gets the highest.

    Args:
        on: (N, C, T), the segments that reach the segment threshold.
        clip: (N, C), probabilities of the clips: a class is on in a clip's segments only if its probability reaches the threshold.
        fixed: (C,), thresholds of the other classes.
        true: (N, C, T), the truth.
        grid: thresholds to choose from, rising.

    Raises:
        ValueError: the shapes do not fit, there is no clip, or the grid is empty or does not rise.

    Example:
        >>> on = np.ones((2, 1, 3), bool)
        >>> select_thresholds(on, np.array([[0.6], [0.4]]), np.array([0.5]), on & np.array([True, False])[:, None, None]).tolist()
        [0.6000000238418579]
    """
    if not len(on) or on.ndim != 3 or true.shape != on.shape or clip.shape != on.shape[:2] or fixed.shape != on.shape[1:2]:
        raise ValueError(f"segments {on.shape}, truth {true.shape}, clips {clip.shape}, thresholds {fixed.shape}: they do not fit, N >= 1")
    if not grid or list(grid) != sorted(set(grid)):
        raise ValueError(f"the grid {list(grid)} must rise")
    grid_values = np.asarray(grid, dtype=np.float32).astype(clip.dtype)  # as they are stored with the weights
    own = event_counts(on & (clip >= fixed)[:, :, None], true)
    scores = np.empty((len(grid), on.shape[1]))
    for step, threshold in enumerate(grid_values):
        moved = event_counts(on & (clip >= threshold)[:, :, None], true)
        for c in range(on.shape[1]):  # only this class's column differs from the counts at the fixed thresholds
            counts = type(own)(*(before.copy() for before in own))
            for part, after in zip(counts, moved, strict=True):
                part[:, c] = after[:, c]
            scores[step, c] = np.nan_to_num(clip_f(counts), nan=100.0).mean()
    best = len(grid) - 1 - scores[::-1].argmax(axis=0)
    return grid_values[best].astype(np.float32)


def tune_gates(
    segments: NDArray[np.floating], clip: NDArray[np.floating], true: NDArray[np.bool_], gates: Sequence[float] = GATES
) -> tuple[float, float, float]:
    """Find the pair of gates with the highest segment-level F of one kind of event; among equals, the first.

    F is that of :mod:`pipeline.metrics.parsing`, where an empty clip counts as perfect.

    Args:
        segments: (N, T, C), probabilities; 0 in padding.
        clip: (N, C), probabilities.
        true: (N, T, C).
        gates: candidates for both, above 0 and rising.

    Returns:
        (gate of a segment, gate of a clip, F in percent).
    """
    present = true.sum(axis=1)
    passes = [clip >= np.asarray(gate, clip.dtype) for gate in gates]
    best = (gates[0], gates[0], -1.0)
    for gate in gates:
        on = segments >= np.asarray(gate, segments.dtype)
        right, found = (on & true).sum(axis=1), on.sum(axis=1)
        for clip_gate, passed in zip(gates, passes, strict=True):
            hits, said = right * passed, found * passed
            scores = np.nan_to_num(clip_f(Counts(hits, said - hits, present - hits)), nan=100.0)
            if len(scores) and scores.mean() > best[2]:
                best = (gate, clip_gate, float(scores.mean()))
    return best
