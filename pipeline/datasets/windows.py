"""Cut annotated films into rows of one window each, the events of a film cut with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.datasets.base import Event, Row, count_lines
from pipeline.errors import InputProblems
from pipeline.media.windowing import Windowing

DIGITS = 6  # after the point, of a time in seconds: cutting leaves no rounding error of the subtraction


def first_windows(rows: Sequence[Row], windowing: Windowing) -> tuple[list[Row], list[str]]:
    """Keep what lies in the first window of every film.

    Returns:
        The rows, and the health lines on events that are left out or cut.
    """
    end = windowing.seconds
    late = [_named(row, event) for row in rows for event in row.events if event.onset >= end]
    cut = [_named(row, event) for row in rows for event in row.events if event.onset < end < event.offset]
    beyond = f"the first {end:g} s of their film, which alone are read (dataset.windows: all reads films whole)"
    health = count_lines(f"labelled events after {beyond}", late) + count_lines(f"labelled events cut at the end of {beyond}", cut)
    return [replace(row, events=_part(row.events, 0.0, end)) for row in rows], health


def all_windows(rows: Sequence[Row], windowing: Windowing, lengths: Mapping[str, float | None]) -> tuple[list[Row], list[str]]:
    """Cut every film into windows, each a clip of the film's split.

    A window's clip is named ``FILM@START``; a film of one window keeps its name.

    Args:
        lengths: seconds of each film by file; None where they cannot be read: such a film is one window, and `decode` gives the reason.

    Returns:
        The rows, film by film, and the health lines on films without a length and events that no window holds.

    Raises:
        InputProblems: films of several windows with labels of the whole film, of which no window's labels are known.
    """
    found: list[Row] = []
    unread, whole, lost = [], [], []
    for row in rows:
        length = lengths[row.file] if row.file else None
        if row.file and length is None:
            unread.append(row.clip)
        starts = windowing.starts(0.0 if length is None else length - row.start)
        end = starts[-1] + windowing.seconds if length is None else length - row.start
        held = [event for event in row.events if event.onset < end]
        lost += [_named(row, event) for event in row.events if event not in held]
        if len(starts) > 1 and row.labels is not None:
            whole.append(row.clip)
        for start in starts:
            clip = window_id(row.clip, start) if len(starts) > 1 else row.clip
            found.append(replace(row, clip=clip, start=row.start + start, events=_part(held, start, start + windowing.seconds)))
    if whole:
        raise InputProblems(
            "dataset.windows", count_lines("films of several windows whose labels have no times; cut them, or set windows: first", whole)
        )
    health = count_lines("films whose length cannot be read, taken as one window", unread)
    health += count_lines("labelled events after the end of their film, left out", lost)
    return found, health


def window_id(film: str, start: float) -> str:
    """The clip id of a film's window that starts at ``start`` seconds."""
    return f"{film}@{start:.{DIGITS}f}".rstrip("0").rstrip(".")


def _part(events: Sequence[Event], start: float, end: float) -> tuple[Event, ...]:
    """The events between two times of a film, cut there and counted from ``start``."""
    inside = [event for event in events if event.onset < end and (event.offset > start or event.onset == event.offset >= start)]
    spans = [(max(event.onset, start), min(event.offset, end)) for event in inside]
    if start:
        spans = [(round(onset - start, DIGITS), round(offset - start, DIGITS)) for onset, offset in spans]
    return tuple(replace(event, onset=onset, offset=offset) for event, (onset, offset) in zip(inside, spans, strict=True))


def _named(row: Row, event: Event) -> str:
    return f"{row.clip} {event.onset:g}-{event.offset:g} s {event.label}"
