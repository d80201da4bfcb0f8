"""Tables for tasks with a grid of scores (:class:`pipeline.tasks.grid.ScoreGrid`).

They show all scores beside those of trivial answers, differences to another run, and scores class by class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pipeline.report.results import RunResult, lines_of_test
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import NOTHING, Table, references_of
from pipeline.tasks import TASKS
from pipeline.tasks.grid import ScoreGrid


def grid_tables(results: list[RunResult], settings: ReportSettings, classes: Sequence[str]) -> dict[str, Table]:
    """The score table of every task with a grid and a run with results, by title."""
    references = references_of(results, settings)
    return {grid.title: _grid_table(grid, ran, references, classes) for grid, ran in _with_grids(results)}


def class_tables(results: list[RunResult], classes: Sequence[str]) -> dict[str, Table]:
    """The class-by-class tables of the same tasks, by title: one line per class and run, means over seeds."""
    return {grid.class_title: _class_table(grid, ran, classes) for grid, ran in _with_grids(results)}


def _with_grids(results: list[RunResult]) -> list[tuple[ScoreGrid, list[RunResult]]]:
    by_task: dict[str, list[RunResult]] = {}
    for result in results:
        if result.scores:
            by_task.setdefault(result.run.task, []).append(result)
    return [(grid, ran) for task, ran in by_task.items() if (grid := TASKS.get(task).GRID) is not None]


def _grid_table(grid: ScoreGrid, ran: list[RunResult], references: dict[str, RunResult], classes: Sequence[str]) -> Table:
    """One line per run, level and rule (means over seeds), with differences to the reference run; trivial answers first.

    Under the first rule each mean carries the half width of the shown seed's 95 % interval over clips.
    """
    metrics = next(iter(ran[0].metrics["test"].values()))
    trivial, lines = metrics["trivial"], []
    differences = {result.name: _differences(grid, result, references[result.name]) for result in ran if result.name in references}
    for level in grid.levels:
        for name, title in ((name, title) for name, title in grid.trivial.items() if name in trivial):
            for rule, prefix in list(grid.rules.items())[:2]:
                values = [trivial[name][f"{prefix}{level}/{score}"] for score in grid.scores]
                lines.append([title, level, rule, *(NOTHING if value is None else f"{value:.1f}" for value in values)])
        for result in ran:
            for rule, prefix in grid.rules.items():
                lines.append([result.label, level, rule, *(_cell(result, prefix, f"{level}/{score}") for score in grid.scores)])
            if reference := references.get(result.name):
                lines.append([f"{result.label} - {reference.label}", level, "difference [95 %]", *differences[result.name][level]])
    return Table(["Run", "Level", "Rule", *grid.scores], lines, [grid.note, *_never(grid, metrics.get("never", {}), classes)])


def _never(grid: ScoreGrid, never: Mapping[str, Mapping[str, Sequence[int]]], classes: Sequence[str]) -> list[str]:
    """One sentence for each trivial answer that leaves out some classes."""
    sentences = []
    for name, tracks in never.items():
        parts = [f"{track} never {', '.join(classes[number] for number in numbers)}" for track, numbers in tracks.items() if numbers]
        sentences.append(f"{grid.trivial[name]}: {'; '.join(parts) or 'leaves out no class'}.")
    return sentences


def _differences(grid: ScoreGrid, result: RunResult, reference: RunResult) -> dict[str, list[str]]:
    """Differences such as ``+1.2 [-0.4, +2.9]`` of every score, by level, over the test clips that both runs scored."""
    found = grid.differences(lines_of_test(result), lines_of_test(reference))
    if found is None:
        return {level: [NOTHING] * len(grid.scores) for level in grid.levels}
    cells = {str(line.Index): f"{line.mean:+.1f} [{line.low:+.1f}, {line.high:+.1f}]" for line in found.itertuples()}
    return {level: [cells[f"{level}/{score}"] for score in grid.scores] for level in grid.levels}


def _class_table(grid: ScoreGrid, ran: list[RunResult], classes: Sequence[str]) -> Table:
    keys = [(level, score) for level in grid.levels for score in grid.class_scores]
    lines = [
        [name, result.label, *(_class_cell(result, f"{level}/{score}", number) for level, score in keys)]
        for number, name in enumerate(classes)
        for result in ran
    ]
    return Table(["Class", "Run", *(f"{level.capitalize()} {score}" for level, score in keys)], lines, [f"{NOTHING}: {grid.class_note}"])


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
