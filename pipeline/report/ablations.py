"""Ablations as the papers print them: one table for each printed one, its numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.report.published import PrintedRow, PrintedTable, load_published, read_published_file
from pipeline.report.results import RunResult, clips_of_test
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import NOTHING, PROTOCOLS, Table, as_interval, difference, mean_and_std, moments, references_of, spread

OURS = "Runs of ours, which no table prints"
Cells = dict[str, str]  # a line, by the heads of its columns


def ablation_tables(results: Sequence[RunResult], states: Mapping[str, str], settings: ReportSettings) -> dict[str, Table]:
    """One table for each printed one that has a row in ``report.papers``, and one of the other runs, by title.

    Args:
        results: every run of the suite, with or without scores.
        states: by run without scores, what has become of it: queued, failed ...
        settings: the suite's block ``report``.
    """
    written = _Lines(results, states, settings)
    run_of = {key: run for run, key in settings.papers.items()}
    tables = {}
    for table in read_published_file().tables:
        if any(row.key in run_of for row in table.rows):
            lines = [written.printed(row, table, run_of.get(row.key) or run_of.get(row.same_as or "")) for row in table.rows]
            title = f"{read_published_file().papers[table.paper].name}, Table {table.table}: {table.about}"
            tables[title] = _as_table(lines, list(_of_printed(table)))
    if rest := [result.name for result in results if result.name not in settings.papers]:
        tables[OURS] = _as_table([written.ours(run) for run in rest], [])
    return tables


class _Lines:
    """The lines of the tables, as cells by column."""

    def __init__(self, results: Sequence[RunResult], states: Mapping[str, str], settings: ReportSettings) -> None:
        self._results, self._states, self._settings = {result.name: result for result in results}, states, settings
        self._references = references_of(list(results), settings)

    def printed(self, row: PrintedRow, table: PrintedTable, run: str | None) -> Cells:
        """A printed row, and the run of ours that stands for it; None: there is none."""
        result = self._results.get(run or "")
        cells = {"Printed row": row.row, "Run": NOTHING if result is None else result.label}
        if len(table.columns) == 1:
            [(metric, _)], [value] = table.columns.items(), row.values
            cells |= {"Test, mean ± std (seeds)": self._score(result, metric), **self._best_epoch(result)}
            cells["Paper"] = "" if value is None else f"{value:g}"
        else:
            for (metric, head), value in zip(table.columns.items(), row.values, strict=True):
                cells[f"{head}, ours / paper"] = f"{self._score(result, metric)} / {NOTHING if value is None else f'{value:g}'}"
        return cells | self._difference(result)

    def ours(self, run: str) -> Cells:
        """A run that stands for no printed row."""
        result = self._results[run]
        score = self._score(result, result.headline)
        return {"Run": result.label, "Test, mean ± std (seeds)": score, **self._best_epoch(result), **self._difference(result)}

    def _score(self, result: RunResult | None, metric: str) -> str:
        if result is None:
            return NOTHING
        if not result.scores:
            return self._states.get(result.name, NOTHING)
        known = result.values_of(metric)
        return spread(moments(known), known) if known else NOTHING

    def _best_epoch(self, result: RunResult | None) -> Cells:
        return {PROTOCOLS["best_test_epoch"]: mean_and_std(moments(result.best_test_epoch)) if result is not None else ""}

    def _difference(self, result: RunResult | None) -> Cells:
        """Difference in the headline to the run's baseline, and, where both are printed in it, the paper's."""
        reference = self._references.get(result.name) if result is not None else None
        if result is None or reference is None:
            return {"Difference [95 %]": "", "Paper's difference": "", "Test clips": self._clips(result)}
        known = difference(result, reference)
        ours = f"{known['difference']:+.2f} {as_interval(known['low'], known['high'], '+')} to {reference.name}" if known else ""
        values = [self._printed_headline(one) for one in (result, reference)]
        papers = "" if None in values else f"{values[0] - values[1]:+.2f}"  # type: ignore[operator]
        return {"Difference [95 %]": ours, "Paper's difference": papers, "Test clips": self._clips(result)}

    def _clips(self, result: RunResult | None) -> str:
        return str(clips_of_test(result)) if result is not None and result.directory is not None else ""

    def _printed_headline(self, result: RunResult) -> float | None:
        key = self._settings.papers.get(result.name)
        return None if key is None else load_published()[key].value(result.headline)


def _of_printed(table: PrintedTable) -> Iterator[str]:
    """Notes on a printed table: its paper's protocol, and its own."""
    paper = read_published_file().papers[table.paper]
    yield f"{paper.name} ({paper.venue}), {table.dataset}. {paper.protocol}"
    yield from (f"{row.row}: {row.note}" for row in table.rows if row.note)


def _as_table(lines: Sequence[Cells], notes: list[str]) -> Table:
    """Leave out the columns that no line fills."""
    heads = [head for head in lines[0] if any(cells[head] for cells in lines)]
    return Table(heads, [[cells[head] or NOTHING for head in heads] for cells in lines], notes)
