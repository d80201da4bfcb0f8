"""Measure what a part of a method is worth: paired differences between a run and runs without the part."""

from __future__ import annotations

from statistics import fmean

from pipeline.report.results import RunResult
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import NOTHING, Table, as_interval, difference, unscored

OVER_SOURCES = "[95 %] over sources"  # only with runs by folds
HEADS = ["Difference [95 %]", OVER_SOURCES, "Test clips", "By seed"]


def comparison_table(results: list[RunResult], settings: ReportSettings) -> Table:
    """One line for every pair in ``report.comparisons``; an empty table without any.

    The interval is over test clips and compares means over seeds. Runs with the same seeds also get the difference of each seed.
    """
    by_name = {result.name: result for result in results}
    lines = [
        [by_name[run].label, by_name[other].label, *_cells(by_name[run], by_name[other])]
        for run, others in settings.comparisons.items()
        for other in others
    ]
    if not lines:
        return Table([], [])
    note = (
        "Run minus the other, in points of the headline. The interval is over the test clips that both answered (paired bootstrap) and does"
        " not cover seeds."
    )
    heads = ["Run", "Against", *HEADS]
    if all(result.groups is None for result in results):
        place = heads.index(OVER_SOURCES)
        heads, lines = heads[:place] + heads[place + 1 :], [line[:place] + line[place + 1 :] for line in lines]
    return Table(heads, lines, [note])


def _cells(result: RunResult, other: RunResult) -> list[str]:
    """The cells below HEADS: the difference with its intervals, the clips behind it, and the difference of each seed."""
    if not result.scores or not other.scores:
        return [next(unscored(one) for one in (result, other) if not one.scores), NOTHING, NOTHING, NOTHING]
    known = difference(result, other)
    interval = f"{known['difference']:+.2f} {as_interval(known['low'], known['high'], '+')}" if known else NOTHING
    grouped = as_interval(known["low_sources"], known["high_sources"], "+") if "low_sources" in known else NOTHING
    cells = [interval, grouped, f"{known['clips']:.0f}" if known else NOTHING]
    if result.run.seeds != other.run.seeds:
        return [*cells, f"{fmean(result.scores) - fmean(other.scores):+.2f} in the mean (other seeds)"]
    return [*cells, ", ".join(f"{ours - theirs:+.2f}" for ours, theirs in zip(result.scores, other.scores, strict=True))]
