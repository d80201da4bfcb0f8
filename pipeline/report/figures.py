"""Figures of the report: a bar for each run, and the validation curves."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.drawing import METADATA, plt
from pipeline.report.results import RunResult


def draw_runs(results: list[RunResult], path: Path) -> None:
    """Draw the headline metric of each run: a bar for the mean over seeds, a dot for each seed."""
    ran = [result for result in results if result.scores]
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.45 * max(1, len(ran))), layout="constrained")
    several = len({result.run.task for result in ran}) > 1  # their headline metrics are different numbers
    names = [f"{result.label} ({result.run.task})" if several else result.label for result in ran]
    axes.barh(names, [result.mean for result in ran], color="#7aa6c2", zorder=1)
    for position, result in enumerate(ran):
        axes.scatter(result.scores, [position] * len(result.scores), s=14, color="#1b3a4b", zorder=2)
    axes.invert_yaxis()
    metrics = ", ".join(dict.fromkeys(result.headline for result in ran))
    axes.set_xlabel(f"{metrics} on test (bar: mean, dots: seeds)" if ran else "no run has results")
    figure.savefig(path, dpi=120, metadata=METADATA)
    plt.close(figure)


def draw_curves(curves: pd.DataFrame, path: Path) -> None:
    """Draw the headline metric on validation over epochs, one line per run."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for position, (name, of_run) in enumerate(curves.groupby("run", sort=False)):
        axes.plot(of_run["epoch"], of_run["value"], label=str(name), linestyle=("-", "--", ":", "-.")[position % 4])
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation, mean over seeds")
    if len(curves):
        axes.legend()
    figure.savefig(path, dpi=120, metadata=METADATA)
    plt.close(figure)
