"""The table of runs by folds: each score with its intervals over clips and over sources, and fold by fold."""

from __future__ import annotations

from statistics import fmean

from pipeline.metrics.bootstrap import Difference
from pipeline.report.results import RunResult, lines_of_test
from pipeline.report.tables import NOTHING, Table, as_interval, mean_and_std, moments
from pipeline.tasks import TASKS


def fold_table(results: list[RunResult]) -> Table:
    """The score of every run by folds over all clips, with intervals, and fold by fold; empty without such runs."""
    lines = []
    for result in results:
        if not result.folds or not result.scores:
            continue
        task, answers = TASKS.get(result.run.task), lines_of_test(result)
        over_clips, over_groups = task.compare(answers, None), task.compare(answers, None, result.groups)
        by_fold = zip(*(result.folds["test"][str(seed)] for seed in result.run.seeds), strict=True)
        means = [[value for value in values if value is not None] for values in by_fold]
        each = [f"{fmean(values):.1f}" if values else NOTHING for values in means]
        score, validation = (mean_and_std(moments(result.values_of(result.headline, split))) for split in ("test", "val"))
        lines.append([result.label, result.headline, validation, score, _bounds(over_clips), _bounds(over_groups), ", ".join(each)])
    if not lines:
        return Table([], [])
    note = (
        "Percentile intervals by bootstrap of the mean over seeds: of clips, and of whole groups of clips that share a source, which is the"
        " wider one where clips of a source are alike. They do not cover seeds. By fold: the mean over seeds on the clips of each fold."
        " Validation is of all clips too, each answered by the network that it validates: choose settings by it."
    )
    heads = ["Run", "Metric", "Validation", "All clips, mean ± std over seeds", "95 %, clips", "95 %, sources", "By fold"]
    return Table(heads, lines, [note])


def _bounds(found: Difference | None) -> str:
    return NOTHING if found is None else as_interval(found.low, found.high)
