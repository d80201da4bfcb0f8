"""Footnotes of the results table: what is stale or missing, the paper's source, departures from its settings, machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pipeline.methods import METHODS
from pipeline.report.provenance import Provenance, stale_remark
from pipeline.report.published import load_published
from pipeline.report.results import RunResult
from pipeline.report.settings import ReportSettings


class Footnotes:
    """Numbered notes; several runs may refer to the same one."""

    def __init__(self, results: list[RunResult], settings: ReportSettings, methods: Mapping[str, Mapping[str, Any]]) -> None:
        self.texts: list[str] = []
        self._of_run: dict[str, list[int]] = {}
        provenance = Provenance(results)
        for result in results:
            for text in (*remarks(result, settings, methods.get(result.name, {})), *provenance.remarks(result)):
                if text not in self.texts:
                    self.texts.append(text)
                self._of_run.setdefault(result.name, []).append(self.texts.index(text) + 1)

    def marked(self, result: RunResult) -> str:
        """The run's name with the numbers of its notes: ``cace_net (stale) [1, 3]``."""
        numbers = self._of_run.get(result.name, [])
        return f"{result.label} [{', '.join(map(str, numbers))}]" if numbers else result.label


def remarks(result: RunResult, settings: ReportSettings, method: Mapping[str, Any]) -> Iterator[str]:
    """The footnotes of one run.

    Args:
        method: settings of the run's method.
    """
    if result.absent:
        yield f"Not run: {result.absent}."
    if result.made_by:
        yield f"Made features ({result.made_by}): says nothing of the method."
    if result.dense_labels:
        yield f"Dense labels took part in the labels that it learned from: {result.dense_labels}."
    yield from stale_remark(result)
    if result.name in settings.papers:
        yield from load_published()[settings.papers[result.name]].remarks()
        if departures := list(departures_of(result.run.method, method)):
            yield f"Settings that differ from the defaults of {result.run.method} (defaults in brackets): {', '.join(departures)}."
    for split, clips in result.missing.items():
        if clips and split == "test":
            of = result.evaluated.get(split, 0)
            named = ", ".join(clips[:5]) + (" ..." if len(clips) > 5 else "")
            yield f"{len(clips)} labelled test clips have no features and are not scored (scored: {of} rows): {named}."
    if result.folds:
        yield fold_remark(result.folds)
    if result.in_train:
        rest = "these are all of them" if result.in_train == result.evaluated.get("test") else "one column gives the score without them"
        yield f"{result.in_train} test rows are also in train, with the same id or with the same bytes under another id; {rest}."
    if result.films_and_windows:
        films, windows = result.films_and_windows
        yield f"{windows} test windows of {films} films: intervals take windows as independent, so those of few films are too narrow."
    if result.name in settings.notes:
        yield settings.notes[result.name]


def fold_remark(folds: Mapping[str, Any]) -> str:
    """How the clips of a run by folds were divided."""
    by = f" named in {folds['by']}" if folds["by"] else " (a film, or equal bytes)"
    return (
        f"Cross-validation in {folds['number']} folds: every clip is tested once, by a network trained without its fold and the next one,"
        f" on which epoch and thresholds were chosen. Clips that share a source{by} are in one fold: {folds['groups']} groups. A seed's"
        " score is of all clips together; the splits of the annotations are not used."
    )


def departures_of(method: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Settings of a run that differ from the method's defaults, with the default in brackets: ``recipe.epochs 20 (200)``.

    The defaults are those under the run's own supervision.
    """
    config = METHODS.get(method).Config
    supervision = {key: value for key, value in settings.items() if key == "supervision"}
    yield from _departures(config(**settings), config(**supervision), "")


def _departures(ours: BaseModel, default: BaseModel, prefix: str) -> Iterator[str]:
    for name in type(ours).model_fields:
        value, usual = getattr(ours, name), getattr(default, name)
        if isinstance(value, BaseModel) and isinstance(usual, BaseModel):
            yield from _departures(value, usual, f"{prefix}{name}.")
        elif value != usual:
            yield f"{prefix}{name} {_plain(value)} ({_plain(usual)})"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, tuple | list) else str(value)
