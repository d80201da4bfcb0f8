"""The page's data of one run as plain JSON: accuracy by class, confusion, reliability of the scores, training curves.

Shape letters: N segments of test (valid ones, all seeds together), C classes without background.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.report.results import RunResult
from pipeline.tables import read_table
from pipeline.tasks import TASKS

BINS = 10
POINTS = 120  # of a curve; a longer one is thinned


def run_content(result: RunResult) -> dict[str, Any]:
    """All of a run's data except its clips; a part that the run's task does not have is None."""
    run = result.run
    content: dict[str, Any] = {"name": result.name, "label": result.label, "method": run.method, "task": run.task, "features": run.features}
    if not result.scores:
        return content | {"ran": False}
    return content | {
        "ran": True,
        "headline": result.headline,
        "mean": round(result.mean, 2),
        "seeds": run.seeds,
        "shownSeed": result.shown_seed,
        "clipScore": TASKS.get(run.task).CLIP_SCORE,
        "classScores": class_scores(result),
        "confusion": confusion(result),
        "reliability": run_reliability(result),
        "curves": curves(result),
    }


def class_scores(result: RunResult) -> dict[str, Any] | None:
    """The score that the task has for each class, in percent, mean over seeds; None for a task without one.

    Returns:
        ``name`` and ``values``: the accuracy on its true segments, C+1 values with that of the background, or the average precision, C.
    """
    for name in ("accuracy", "mAP"):
        by_seed = [metrics.get(f"class_{name}") for metrics in result.metrics["test"].values()]
        if all(by_seed):
            means = pd.DataFrame(by_seed, dtype=float).mean()
            return {"name": name, "values": [None if np.isnan(mean) else round(float(mean), 1) for mean in means]}
    return None


def confusion(result: RunResult) -> list[list[int]] | None:
    """Counts of segments, or of events, over all seeds, rows true, columns predicted: (C+1) x (C+1)."""
    by_seed = [metrics.get("confusion") for metrics in result.metrics["test"].values()]
    return np.sum(by_seed, axis=0).tolist() if all(by_seed) else None


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Measure how often answers given with a certain confidence are right.

    Args:
        confidence: (N,), in [0, 1]; right: (N,).

    Returns:
        ``bins``: [mean confidence, share right, count] of each non-empty one of ten equal bins of confidence; ``error``: the expected
        calibration error (Guo et al., ICML 2017, Eq. 3) in percent: the gap between the first two, weighted by count.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    means = np.bincount(bins, weights=confidence, minlength=BINS)[filled] / counts[filled]
    shares = np.bincount(bins, weights=right.astype(float), minlength=BINS)[filled] / counts[filled]
    error = float(np.average(np.abs(means - shares), weights=counts[filled])) if filled.any() else 0.0
    listed = [
        [round(float(mean), 4), round(float(share), 4), int(count)]
        for mean, share, count in zip(means, shares, counts[filled], strict=True)
    ]
    return {"bins": listed, "error": round(100 * error, 2)}


def run_reliability(result: RunResult) -> dict[str, Any] | None:
    """:func:`reliability` of every probability in the task's predictions, by name; None if the task has none."""
    assert result.directory is not None
    task = TASKS.get(result.run.task)
    if not task.CONFIDENT:
        return None
    columns, only = ["row", "seed", *task.CONFIDENT], [("split", "==", "test")]
    table = read_table(result.directory / "predictions.parquet", columns=columns, filters=only)
    return {name: reliability(confidence, right) for name, (confidence, right) in task.confidences(table).items()}


def curves(result: RunResult) -> dict[str, list[list[float]]]:
    """``validation`` (the headline metric) and ``loss``, each as lists [epoch, mean, lowest, highest] over seeds."""
    assert result.directory is not None
    path = result.directory / "curves.csv"
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["epoch"])
    drawn = {}
    for name, column in (("validation", f"val/{result.headline}"), ("loss", "train/total")):
        if column in table.columns:
            by_epoch = table.groupby("epoch")[column].agg(["mean", "min", "max"]).dropna()
            kept = by_epoch.iloc[np.unique(np.linspace(0, len(by_epoch) - 1, min(len(by_epoch), POINTS)).round().astype(int))]
            drawn[name] = [[int(line.Index), *(round(float(value), 4) for value in line[1:])] for line in kept.itertuples()]
    return drawn
