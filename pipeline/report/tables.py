"""The results table, one line per run: as numbers, and as text cells for Markdown, LaTeX and HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean

import pandas as pd

from pipeline.report.footnotes import Footnotes
from pipeline.report.published import load_published
from pipeline.report.results import RunResult, clips_of_test, lines_of_test
from pipeline.report.settings import ReportSettings
from pipeline.tasks import TASKS
from pipeline.text import duration

NOT_RUN = "not run"
NO_TEST = "no test clips"
NOTHING = "–"
LIKE_FOR_LIKE = "To the paper, both at the best test epoch"
# The headline under other protocols; ours chooses the epoch on validation and scores all test clips.
PROTOCOLS = {
    "last_epoch": "Last epoch",
    "best_test_epoch": "Best test epoch, as published",
    "unseen": "Without test clips that stand in train",
}
COLUMNS = [
    *(
        "run",
        "task",
        "method",
        "features",
        "seeds",
        "metric",
        "mean",
        "std",
        "best",
        "best_seed",
        "test_clips",
        "paper",
        "to_paper",
        "like_for_like",
    ),
    *("parameters", "seconds", "difference", "low", "high", "paper_key", "source", "stale", "absent"),
    *(f"{name}_{moment}" for name in PROTOCOLS for moment in ("mean", "std")),
]
BY_SOURCES = ("low_sources", "high_sources")  # further columns, of runs by folds


@dataclass
class Table:
    """A table as shown: heads, lines of cells, and notes that the cells refer to as [1], [2] ..."""

    heads: list[str]
    lines: list[list[str]]
    notes: list[str] = field(default_factory=list)


def results_table(results: list[RunResult], settings: ReportSettings) -> pd.DataFrame:
    """All runs with unrounded numbers; a run without results has only the paper's number."""
    references = references_of(results, settings)
    secondary = list(dict.fromkeys(metric for result in results for metric in TASKS.get(result.run.task).SECONDARY))
    lines = []
    for result in results:
        line = {**facts_of(result), **paper_of(result, settings)}
        if not result.absent:
            line |= work_of(result)
        if result.scores:
            line |= numbers_of(result) | {metric: result.mean_of(metric) for metric in secondary}
            if line.get("paper") is not None and not result.made_by:
                line["to_paper"] = result.mean - line["paper"]
                if result.best_test_epoch and load_published()[settings.papers[result.name]].chosen_on_test:
                    line["like_for_like"] = fmean(result.best_test_epoch) - line["paper"]
            if reference := references.get(result.name):
                line |= difference(result, reference)
        lines.append(line)
    grouped = BY_SOURCES if any("low_sources" in line for line in lines) else ()
    return pd.DataFrame(lines, columns=[*COLUMNS, *grouped, *secondary])


def references_of(results: list[RunResult], settings: ReportSettings) -> dict[str, RunResult]:
    """For each run with results, the run to compare it with: one with results and of the same task."""
    by_name = {result.name: result for result in results if result.scores}
    found = {name: by_name.get(settings.baseline_of(name, result.run.task) or "") for name, result in by_name.items()}
    return {
        name: reference
        for name, reference in found.items()
        if reference is not None and reference.name != name and reference.run.task == by_name[name].run.task
    }


def facts_of(result: RunResult) -> dict:
    run = result.run
    facts = {"run": result.name, "task": run.task, "method": run.method, "features": run.features, "seeds": len(run.seeds)}
    return facts | {"stale": "; ".join(result.stale) or None, "absent": result.absent or None}


def numbers_of(result: RunResult) -> dict:
    of_protocol = {
        "last_epoch": result.last_epoch,
        "best_test_epoch": result.best_test_epoch,
        "unseen": result.values_of(result.headline, "test_unseen"),
    }
    return {f"{name}_{key}": value for name, values in of_protocol.items() for key, value in moments(values).items()} | {
        "metric": result.headline,
        "mean": result.mean,
        "std": result.std,
        "best": max(result.scores),
        "best_seed": result.best_seed,
        "test_clips": clips_of_test(result),
    }


def work_of(result: RunResult) -> dict:
    """Parameters and training time of a run with results, whether or not test has clips."""
    return {"parameters": result.parameters, "seconds": sum(result.seconds) / len(result.seconds) if result.seconds else None}


def paper_of(result: RunResult, settings: ReportSettings) -> dict:
    """The published number that ``report.papers`` names for a run, in the run's headline metric.

    A run without results has no headline metric; it gets the paper's number if there is only one.
    """
    if result.name not in settings.papers:
        return {}
    published = load_published()[settings.papers[result.name]]
    numbers = list(published.numbers.values())
    value = published.value(result.headline) if result.headline else (numbers[0] if len(numbers) == 1 else None)
    return {"paper": value, "paper_key": published.row.key, "source": published.source}


def difference(result: RunResult, reference: RunResult) -> dict[str, float]:
    """Difference to another run of the task, with its 95 % interval; {} without test clips that both answered.

    ``clips`` is the number of these.
    Of runs by folds there is one more interval, ``low_sources`` to ``high_sources``, over groups of clips that share a source.
    """
    task, lines = TASKS.get(result.run.task), (lines_of_test(result), lines_of_test(reference))
    found = task.compare(*lines)
    if found is None:
        return {}
    both = set(lines[0]["row"]) & set(lines[1]["row"])
    known = {"difference": found.mean, "low": found.low, "high": found.high, "clips": float(len(both))}
    if result.groups is not None and (grouped := task.compare(*lines, result.groups)) is not None:
        known |= dict(zip(BY_SOURCES, (grouped.low, grouped.high), strict=True))
    return known


def as_interval(low: float, high: float, sign: str = "") -> str:
    """Format as ``[low, high]``; ``sign`` is ``+`` for differences."""
    return f"[{low:{sign}.2f}, {high:{sign}.2f}]"


def as_read(table: pd.DataFrame, results: list[RunResult], footnotes: Footnotes, settings: ReportSettings) -> Table:
    """The table as people read it, without empty columns, and without the task if all runs share it."""
    references = references_of(results, settings)
    names = {reference.name for reference in references.values()}
    to = f"to {next(iter(names))}" if len(names) == 1 else "to the run named"
    if table.empty:
        return Table([], [])
    several = table["task"].nunique() > 1  # their headlines share a column but are different metrics
    secondary = {name: head for task in table["task"].unique() for name, head in TASKS.get(task).SECONDARY.items()}
    devices = " or ".join(sorted({result.device for result in results if result.device}))
    training = f"Training (one seed, {devices})"
    lines = []
    for line, result in zip(table.to_dict("records"), results, strict=True):
        known = {key: value for key, value in line.items() if not pd.isna(value)}
        cells = {"Run": footnotes.marked(result), "Task": line["task"] if several else ""}
        cells |= {"Method": line["method"], "Features": line["features"]}
        cells["Test, mean ± std (seeds)"] = spread(known, result.run.seeds) if "mean" in known else unscored(result)
        cells["Best seed"] = f"{known['best']:.2f} (seed {known['best_seed']:.0f})" if "best" in known else ""
        cells["Test clips"] = f"{known['test_clips']:.0f}" if "test_clips" in known else ""
        for name, head in PROTOCOLS.items():
            cells[head] = mean_and_std({"mean": known.get(f"{name}_mean"), "std": known.get(f"{name}_std")})
        cells["Paper"] = f"{known['paper']:g}" if "paper" in known else ""
        cells["To the paper"] = f"{known['to_paper']:+.2f}" if "to_paper" in known else ""
        cells[LIKE_FOR_LIKE] = f"{known['like_for_like']:+.2f}" if "like_for_like" in known else ""
        cells |= {head: f"{known[name]:.1f}" if name in known else "" for name, head in secondary.items()}
        cells["Parameters"] = f"{known['parameters']:,.0f}" if "parameters" in known else ""
        cells[training] = duration(known["seconds"]) if "seconds" in known else ""
        interval = f"{known['difference']:+.2f} {as_interval(known['low'], known['high'], '+')}" if "difference" in known else ""
        named = f" ({references[result.name].name})" if interval and len(names) > 1 else ""
        cells[f"Difference {to} [95 %]"] = interval + named
        cells["[95 %] over sources"] = as_interval(known["low_sources"], known["high_sources"], "+") if "low_sources" in known else ""
        lines.append(cells)
    heads = [head for head in lines[0] if any(cells[head] for cells in lines)]
    return Table(heads, [[cells[head] or NOTHING for head in heads] for cells in lines], footnotes.texts)


def unscored(result: RunResult) -> str:
    """Why a run has no score: no results with its current settings, or no test clips."""
    return NOT_RUN if result.absent else NO_TEST


def against_papers(results: list[RunResult], settings: ReportSettings) -> Table:
    """One line for every metric in a run's paper; empty if no run has any of them beyond its headline."""
    lines, several = [], False
    for result in results:
        if result.name not in settings.papers:
            continue
        published = load_published()[settings.papers[result.name]]
        for metric, value in published.numbers.items():
            ours = result.values_of(metric)
            if not ours:
                score = NOTHING if result.scores else unscored(result)
                lines.append([result.label, metric, score, f"{value:g}", NOTHING, published.table.columns[metric]])
                continue
            several |= metric != result.headline
            known = moments(ours)
            apart = NOTHING if result.made_by else f"{known['mean'] - value:+.2f}"
            cells = [spread(known, ours), f"{value:g}", apart, published.table.columns[metric]]
            lines.append([result.label, metric, *cells])
    heads = ["Run", "Metric", "Ours, mean ± std (seeds)", "Paper", "Difference", "Printed column"]
    return Table(heads, lines) if several else Table([], [])


def moments(values: list[float]) -> dict[str, float]:
    """``mean`` over seeds and, with more than one value, ``std``; {} without values."""
    series = pd.Series(values, dtype=float)
    return {"mean": float(series.mean()), **({"std": float(series.std())} if len(values) > 1 else {})} if values else {}


def mean_and_std(known: dict) -> str:
    """Format as ``mean ± std``; without ± for a single seed, empty without a mean."""
    if known.get("mean") is None:
        return ""
    return f"{known['mean']:.2f}" + (f" ± {known['std']:.2f}" if known.get("std") is not None else "")


def spread(known: dict, seeds: list) -> str:
    """Format as ``mean ± std (n)``."""
    return f"{mean_and_std(known)} ({len(seeds)})"


def baselines_text(results: list[RunResult]) -> str:
    """The scores of trivial answers on the same test clips, one sentence per task."""
    by_task: dict[str, str] = {}
    for result in results:
        for metrics in result.metrics.get("test", {}).values():
            trivial = {key.removeprefix("baseline_"): value for key, value in metrics.items() if key.startswith("baseline_")}
            if trivial:
                by_task.setdefault(result.run.task, ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in trivial.items()))
    named = {f" ({task})" if len(by_task) > 1 else "": scores for task, scores in by_task.items()}
    return " ".join(f"Trivial answers on the same clips{task}: {scores}." for task, scores in named.items())
