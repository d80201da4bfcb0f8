"""The scores of video parsing beside those of trivial answers: the published rule counts empty clips as perfect."""

from __future__ import annotations

from statistics import fmean

from pipeline.metrics.parsing import LEVELS, SCORES
from pipeline.report.results import RowResult
from pipeline.report.tables import NOTHING, Table

RULES = {"as published": "", "clips that have it": "present/", "micro": "micro/"}
TRIVIAL = {"nothing": "(nothing, always)", "weak_label": "(the clip's true labels, always)"}


def parsing_table(results: list[RowResult]) -> Table:
    """A line for every row, level and rule, means over seeds; first the trivial answers. Empty without a row of the task that was run.

    Under the published rule each mean carries the half width of its 95 % interval over clips, that of the seed shown.
    """
    ran = [result for result in results if result.run.task == "avvp" and result.scores]
    if not ran:
        return Table([], [])
    trivial = next(iter(ran[0].metrics["test"].values()))["trivial"]
    lines = []
    for level in LEVELS:
        for name, title in TRIVIAL.items():
            for rule, prefix in list(RULES.items())[:2]:
                values = [trivial[name][f"{prefix}{level}/{score}"] for score in SCORES]
                lines.append([title, level, rule, *(NOTHING if value is None else f"{value:.1f}" for value in values)])
        for result in ran:
            for rule, prefix in RULES.items():
                lines.append([result.name, level, rule, *(_cell(result, prefix, f"{level}/{score}") for score in SCORES)])
    notes = [
        "as published: a clip that neither holds nor is said to hold anything of a kind counts as perfect, ± half the 95 % interval over"
        " clips (bootstrap); clips that have it: those are left out; micro: F of the counts of all clips and classes together."
        " Ao: heard and not seen, Vo: seen and not heard."
    ]
    return Table(["Row", "Level", "Rule", *SCORES], lines, notes)


def _cell(result: RowResult, prefix: str, key: str) -> str:
    values = result.values_of(f"{prefix}{key}")
    if not values:
        return NOTHING
    if prefix:
        return f"{fmean(values):.1f}"
    low, high = result.metrics["test"][str(result.shown_seed)]["intervals"][key]
    return f"{fmean(values):.1f} ± {(high - low) / 2:.1f}"
