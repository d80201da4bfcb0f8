"""Bars of a timeline: truth and answer for one class on one track, and their looks.

Hatching and symbols mark right and wrong as well as colour: correct = plain and a tick, missed = an empty dashed box with a circle,
false = crossed hatching and a cross.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.tasks.lanes import Lane
from pipeline.tasks.tracks import TrackName, Tracks, runs


@dataclass(frozen=True)
class Style:
    """How one kind of bar looks; the symbol is drawn in the middle if the bar has room for it."""

    name: str
    face: str
    edge: str
    hatch: str | None = None
    line: str = "-"
    symbol: str = ""

    def patch(self) -> dict[str, Any]:
        return {"facecolor": self.face, "edgecolor": self.edge, "hatch": self.hatch, "linestyle": self.line, "linewidth": 1.0}


TRUE = Style("true", "#4d4d4d", "#4d4d4d")
PREDICTED = Style("predicted", "#0072b2", "#0072b2")
CORRECT = Style("predicted, correct", "#0072b2", "#0072b2", symbol="\N{CHECK MARK}")
MISSED = Style("missed", "#ffffff", "#8a5a00", line="--", symbol="\N{WHITE CIRCLE}")
FALSE = Style("predicted, false", "#f7d5c4", "#b33c00", hatch="xxx", symbol="\N{BALLOT X}")
UNKNOWN = Style("not decoded", "#eeeeee", "#aaaaaa", hatch="...")
OF_KIND = {"true": TRUE, "right": CORRECT, "wrong": FALSE, "false": FALSE, "missed": MISSED}


@dataclass(frozen=True)
class Bar:
    """One bar from ``start`` to ``end`` in seconds; bars that overlap share their lane's height as ``levels`` rows."""

    style: Style
    start: float
    end: float
    level: int = 0
    levels: int = 1


def verdicts(active: np.ndarray, truth: np.ndarray | None) -> Iterator[tuple[Style, int, int]]:
    """Yield (style, first, end) of the bars of one class on one track.

    Args:
        active: (T,) bool, the decisions.
        truth: (T,) bool; None if unknown.
    """
    kinds = [(PREDICTED, active)] if truth is None else [(CORRECT, active & truth), (MISSED, ~active & truth), (FALSE, active & ~truth)]
    for style, segments in kinds:
        for first, end in runs(segments):
            yield style, first, end


def segment_bars(active: np.ndarray, truth: np.ndarray | None, edges: np.ndarray) -> tuple[list[Bar], list[Bar]]:
    """Bars of truth and answer for one class, from its segments (T,) with ``edges`` (T + 1,) in seconds."""
    true = [] if truth is None else [Bar(TRUE, edges[first], edges[end]) for first, end in runs(truth)]
    return true, [Bar(style, edges[first], edges[end]) for style, first, end in verdicts(active, truth)]


def span_bars(
    tracks: Tracks, judged: Sequence[Lane] | None, name: TrackName, number: int, segment_seconds: float
) -> tuple[list[Bar], list[Bar]]:
    """Bars of the truth and of the answer for one class, from its real-valued spans.

    Args:
        judged: truth and answers of the whole file, judged; None if the truth is unknown.
    """
    if judged is None:
        found = [event for event in tracks.found or () if event.modality == name and event.label == tracks.classes[number]]
        return [], stacked(Bar(PREDICTED, event.start, event.end) for event in found)
    of_track = [lane for lane in judged if lane.track == name]
    true, answers = (
        stacked(
            Bar(OF_KIND[kind], start * segment_seconds, end * segment_seconds)
            for lane in of_track
            for start, end, label, kind in getattr(lane, part)
            if label == number
        )
        for part in ("truth", "spans")
    )
    return true, answers


def stacked(bars: Iterable[Bar]) -> list[Bar]:
    """Spread bars that overlap in time over as few levels as it takes."""
    ends: list[float] = []
    placed = []
    for bar in sorted(bars, key=lambda one: (one.start, one.end)):
        level = next((number for number, end in enumerate(ends) if end <= bar.start), len(ends))
        ends[level : level + 1] = [bar.end]
        placed.append(replace(bar, level=level))
    return [replace(bar, levels=len(ends)) for bar in placed]
