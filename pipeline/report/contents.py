"""All tables of a report, as the page, table.md and docs/results/ show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.report.comparisons import comparison_table
from pipeline.report.folded import fold_table
from pipeline.report.footnotes import Footnotes
from pipeline.report.grids import class_tables, grid_tables
from pipeline.report.provenance import Provenance
from pipeline.report.results import RunResult
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import Table, against_papers, as_read, baselines_text, results_table


@dataclass(frozen=True)
class Contents:
    """The tables of a report.

    numbers: the results, unrounded; results: the same as people read it.
    further: other tables by title, without empty ones; classes: those class by class.
    baselines: the scores of trivial answers; machines: what the numbers were made on. A sentence each, empty without results.
    """

    numbers: pd.DataFrame
    results: Table
    further: dict[str, Table]
    classes: dict[str, Table]
    baselines: str
    machines: str

    @property
    def below(self) -> list[str]:
        """The sentences that stand below the tables."""
        return [f"{line}\n" for line in (self.baselines, self.machines) if line]


def contents(
    results: list[RunResult], settings: ReportSettings, methods: Mapping[str, Mapping[str, Any]], classes: Sequence[str]
) -> Contents:
    """Make all tables of some runs.

    Args:
        methods: for each run, the settings of its method.
        classes: names of the classes.
    """
    for result in results:
        stated = (result.dense_labels, settings.dense_labels.get(result.name))
        result.dense_labels = "; ".join(text for text in stated if text)
    numbers = results_table(results, settings)
    named = {
        "Cross-validation, over all clips": fold_table(results),
        "Paired differences": comparison_table(results, settings),
        "Against the papers, metric by metric": against_papers(results, settings),
        **grid_tables(results, settings, classes),
    }
    return Contents(
        numbers=numbers,
        results=as_read(numbers, results, Footnotes(results, settings, methods), settings),
        further={title: table for title, table in named.items() if table.heads},
        classes=class_tables(results, classes),
        baselines=baselines_text(results),
        machines=Provenance(results).sentence(),
    )
