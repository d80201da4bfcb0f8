"""Write the report directory: tables, figures, metrics for `dvc`, and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.datasets import read_index
from pipeline.datasets.base import read_health
from pipeline.datasets.folds import read_folds
from pipeline.report.cards import About, write_cards
from pipeline.report.contents import contents
from pipeline.report.figures import draw_curves, draw_runs
from pipeline.report.formats import latex, markdown
from pipeline.report.page.assemble import write_page
from pipeline.report.provenance import write_provenance
from pipeline.report.results import RunResult, read_runs, validation_curves
from pipeline.report.settings import ReportSettings
from pipeline.training.settings import Run

METRIC_COLUMNS = 12  # of `dvc exp show`; more cannot be read


@dataclass(frozen=True)
class Sources:
    """Where the report's inputs are.

    results, index, clips, live: directories that `evaluate`, `index`, `decode` and `train` (live metrics) wrote.
    segment_seconds: length of a segment.
    media: `dataset.clips`, the directory of the films.
    folds: directory that `index` wrote beside the index; None without.
    about: what model cards say of the clips and the code.
    """

    results: Path
    index: Path
    clips: Path
    live: Path
    segment_seconds: float
    media: Path | None = None
    folds: Path | None = None
    about: About = field(default_factory=About)


def write_report(
    runs: dict[str, Run], methods: Mapping[str, Mapping[str, Any]], settings: ReportSettings, sources: Sources, directory: Path,
    today: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:  # fmt: skip
    """Write tables, figures, metrics, model cards and the page into ``directory``; returns the table as Markdown.

    Args:
        methods: for each run, the settings of its method.
        today: for each run, the params that would make it now; results made with others are marked as stale. None marks nothing.
    """
    results = read_runs(runs, sources.results, sources.live, today)
    found = contents(results, settings, methods, read_index(sources.index)[1])
    main = markdown(found.results) or "No runs: the block `runs` is empty.\n"
    text = "\n".join([main, *map(markdown, found.further.values()), *found.below])
    classes = found.classes
    if classes:  # long: in files of its own, and on the page
        (directory / "classes.md").write_text("\n".join(map(markdown, classes.values())), encoding="utf-8")
        (directory / "classes.tex").write_text("\n".join(map(latex, classes.values())), encoding="utf-8")
    curves = validation_curves(results)
    (directory / "table.md").write_text(text, encoding="utf-8")
    (directory / "table.tex").write_text("\n".join(map(latex, [found.results, *found.further.values()])), encoding="utf-8")
    numbers = found.numbers
    numbers.to_csv(directory / "table.csv", index=False)
    fresh = numbers[numbers["stale"].isna()]  # `dvc exp show` and `dvc plots` put these beside the params of today
    fresh[["run", "mean", "std"]].dropna(subset=["mean"]).round(2).to_csv(directory / "runs.csv", index=False)
    curves.to_csv(directory / "validation.csv", index=False)
    (directory / "metrics.json").write_text(json.dumps(experiment_metrics(results, settings.shown), indent=1) + "\n", encoding="utf-8")
    draw_runs(results, directory / "runs.png")
    draw_curves(curves, directory / "curves.png")
    shown = {**found.further, **classes}
    write_provenance(results, directory)
    index = read_index(sources.index, sources.media)
    write_cards(results, settings, *index, sources.about, directory / "runs")
    folds = read_folds(sources.folds) if sources.folds is not None else None
    health = [*read_health(sources.index), *(folds.facts["health"] if folds is not None else [])]
    write_page(settings, results, (found.results, shown, found.below), index, health, sources.clips, sources.segment_seconds, directory)
    return text


def experiment_metrics(results: list[RunResult], shown: list[str] | None) -> dict[str, dict[str, float | None]]:
    """Metrics for `dvc exp show`: each run's headline metric, mean and standard deviation over seeds, two decimals.

    Stale runs are left out, because DVC would show them beside params that did not make them.
    If ``shown`` is None and the runs need more than a dozen columns, only the means are given, of the first dozen runs at most.
    """
    ran = [result for result in results if result.scores and not result.stale and (shown is None or result.name in shown)]
    means: dict[str, dict[str, float | None]] = {result.name: {result.headline: round(result.mean, 2)} for result in ran}
    if shown is None and 2 * len(ran) > METRIC_COLUMNS:
        return dict(list(means.items())[:METRIC_COLUMNS])
    return {result.name: {**means[result.name], "std": None if result.std is None else round(result.std, 2)} for result in ran}
