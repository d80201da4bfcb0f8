"""The scores of video parsing beside those of trivial answers, against another run, and class by class: the published rule counts empty
clips as perfect."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pipeline.metrics.bootstrap import mean_intervals
from pipeline.metrics.parsing import KINDS, LEVELS, SCORES
from pipeline.report.results import RunResult, lines_of_test
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import NOTHING, Table, references_of
from pipeline.tasks.avvp import all_clip_scores

RULES = {"as published": "", "clips that have it": "present/", "micro": "micro/"}
TRIVIAL = {"nothing": "(nothing, always)", "weak_label": "(the clip's true labels, always)"}


def parsing_table(results: list[RunResult], settings: ReportSettings) -> Table:
    """A line for every run, level and rule, means over seeds, and its difference to the run it is compared with; first the trivial answers.
    Empty where no run of the task has results.

    Under the published rule each mean carries the half width of its 95 % interval over clips, that of the seed shown.
    """
    ran, references = _ran(results), references_of(results, settings)
    if not ran:
        return Table([], [])
    trivial = next(iter(ran[0].metrics["test"].values()))["trivial"]
    lines = []
    differences = {result.name: _differences(result, references[result.name]) for result in ran if result.name in references}
    for level in LEVELS:
        for name, title in TRIVIAL.items():
            for rule, prefix in list(RULES.items())[:2]:
                values = [trivial[name][f"{prefix}{level}/{score}"] for score in SCORES]
                lines.append([title, level, rule, *(NOTHING if value is None else f"{value:.1f}" for value in values)])
        for result in ran:
            for rule, prefix in RULES.items():
                lines.append([result.label, level, rule, *(_cell(result, prefix, f"{level}/{score}") for score in SCORES)])
            if reference := references.get(result.name):
                lines.append([f"{result.label} - {reference.label}", level, "difference [95 %]", *differences[result.name][level]])
    notes = [
        "as published: a clip that neither holds nor is said to hold anything of a kind counts as perfect, ± half the 95 % interval over"
        " clips (bootstrap); clips that have it: those are left out; micro: F of the counts of all clips and classes together."
        " Ao: audio and not visual, Vo: visual and not audio. Differences are as published, means over seeds, paired over"
        " clips (bootstrap)."
    ]
    return Table(["Run", "Level", "Rule", *SCORES], lines, notes)


def _ran(results: list[RunResult]) -> list[RunResult]:
    return [result for result in results if result.run.task == "avvp" and result.scores]


def _differences(result: RunResult, reference: RunResult) -> dict[str, list[str]]:
    """``+1.2 [-0.4, +2.9]`` of every score by level, over the test clips that both runs scored."""
    first, second = (all_clip_scores(lines_of_test(run)) for run in (result, reference))
    common = first.index.intersection(second.index)
    if common.empty:
        return {level: [NOTHING] * len(SCORES) for level in LEVELS}
    gain = first.loc[common] - second.loc[common]
    bounds = dict(zip(gain.columns, mean_intervals(gain).tolist(), strict=True))
    cells = {key: f"{gain[key].mean():+.1f} [{low:+.1f}, {high:+.1f}]" for key, (low, high) in bounds.items()}
    return {level: [cells[f"{level}/{score}"] for score in SCORES] for level in LEVELS}


def class_table(results: list[RunResult], classes: Sequence[str]) -> Table:
    """A line for every class and run: F over all test clips of each kind at both levels, mean over seeds. Empty without a run of the task
    that was run."""
    ran = _ran(results)
    lines = [
        [name, result.label, *(_class_cell(result, f"{level}/{kind}", number) for level in LEVELS for kind in KINDS)]
        for number, name in enumerate(classes)
        for result in ran
    ]
    heads = ["Class", "Run", *(f"{level.capitalize()} {kind}" for level in LEVELS for kind in KINDS)]
    return Table(heads, lines, [f"{NOTHING}: in no clip true or said."]) if ran else Table([], [])


def _class_cell(result: RunResult, key: str, number: int) -> str:
    values = [metrics["classes"][key][number] for metrics in result.metrics["test"].values()]
    known = [value for value in values if value is not None]
    return f"{fmean(known):.1f}" if known else NOTHING


def _cell(result: RunResult, prefix: str, key: str) -> str:
    values = result.values_of(f"{prefix}{key}")
    if not values:
        return NOTHING
    if prefix:
        return f"{fmean(values):.1f}"
    low, high = result.metrics["test"][str(result.shown_seed)]["intervals"][key]
    return f"{fmean(values):.1f} ± {(high - low) / 2:.1f}"
