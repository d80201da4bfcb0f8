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
from pipeline.report.comparisons import comparison_table
from pipeline.report.figures import draw_curves, draw_runs
from pipeline.report.folded import fold_table
from pipeline.report.footnotes import Footnotes
from pipeline.report.formats import latex, markdown
from pipeline.report.grids import class_tables, grid_tables
from pipeline.report.page.assemble import write_page
from pipeline.report.provenance import Provenance, write_provenance
from pipeline.report.results import RunResult, read_runs, validation_curves
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import against_papers, as_read, baselines_text, results_table
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
    for result in results:
        stated = (result.dense_labels, settings.dense_labels.get(result.name))
        result.dense_labels = "; ".join(text for text in stated if text)
    numbers = results_table(results, settings)
    table = as_read(numbers, results, Footnotes(results, settings, methods), settings)
    class_names = read_index(sources.index)[1]
    classes = class_tables(results, class_names)
    named = {
        "Cross-validation, over all clips": fold_table(results),
        "Paired differences": comparison_table(results, settings),
        "Against the papers, metric by metric": against_papers(results, settings),
        **grid_tables(results, settings, class_names),
    }
    further, baselines = {title: one for title, one in named.items() if one.heads}, baselines_text(results)
    main = markdown(table) or "No runs: the block `runs` is empty.\n"
    machines = Provenance(results).sentence()
    below = [f"{line}\n" for line in (baselines, machines) if line]
    text = "\n".join([main, *map(markdown, further.values()), *below])
    if classes:  # long: in files of its own, and on the page
        (directory / "classes.md").write_text("\n".join(map(markdown, classes.values())), encoding="utf-8")
        (directory / "classes.tex").write_text("\n".join(map(latex, classes.values())), encoding="utf-8")
    curves = validation_curves(results)
    (directory / "table.md").write_text(text, encoding="utf-8")
    (directory / "table.tex").write_text("\n".join(map(latex, [table, *further.values()])), encoding="utf-8")
    numbers.to_csv(directory / "table.csv", index=False)
    fresh = numbers[numbers["stale"].isna()]  # `dvc exp show` and `dvc plots` put these beside the params of today
    fresh[["run", "mean", "std"]].dropna(subset=["mean"]).round(2).to_csv(directory / "runs.csv", index=False)
    curves.to_csv(directory / "validation.csv", index=False)
    (directory / "metrics.json").write_text(json.dumps(experiment_metrics(results, settings.shown), indent=1) + "\n", encoding="utf-8")
    draw_runs(results, directory / "runs.png")
    draw_curves(curves, directory / "curves.png")
    shown = {**further, **classes}
    write_provenance(results, directory)
    index = read_index(sources.index, sources.media)
    write_cards(results, settings, *index, sources.about, directory / "runs")
    folds = read_folds(sources.folds) if sources.folds is not None else None
    health = [*read_health(sources.index), *(folds.facts["health"] if folds is not None else [])]
    write_page(settings, results, (table, shown, below), index, health, sources.clips, sources.segment_seconds, directory)
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
