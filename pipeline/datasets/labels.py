"""Read labels of one's own films from a CSV file: one line per event, times in seconds.

Columns: clip, label, onset and offset (or start and end) and, if wanted, split (train, val, test, none, negative) and modality (av, audio,
visual; av when absent). Times are in seconds, or like 1:05.5. ``clip`` is the film's path below its directory, or just its name, with or
without its ending. A line without label, onset and offset is a film without an event; of the split negative, one that weak supervision
alone trains on.
"""

from __future__ import annotations

import difflib
import math
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pipeline.datasets.base import Event, Modality, Split
from pipeline.datasets.tables import read_records

COMPARED = 1_000_000  # names of clips looked at for the nearest one to an unknown name, all unknown names together
SPELLINGS = {"start": "onset", "end": "offset"}


@dataclass(frozen=True)
class Label:
    """One line of labels.

    where: file and line, for messages.
    split: None where none is given.
    event: in seconds of the film; None for a film without an event.
    """

    where: str
    clip: str
    split: Split | None
    event: Event | None


class ClipNames:
    """The ways to name the clips of a directory: by path or by name, each with or without its ending."""

    def __init__(self, clips: Iterable[str]) -> None:
        self.clips = list(clips)
        self._compared = 0
        self._levels: list[dict[str, list[str]]] = [defaultdict(list) for _ in range(4)]
        for clip in self.clips:
            without = os.path.splitext(clip)[0]
            for level, name in zip(self._levels, (clip, without, os.path.basename(clip), os.path.basename(without)), strict=True):
                level[name].append(clip)

    def find(self, name: str) -> str:
        """The clip that ``name`` stands for, by the most exact way to name one.

        Raises:
            ValueError: no clip, with the nearest name (in large sets for the first ones only); or several.
        """
        found = next((level[name] for level in self._levels if name in level), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{name!r} stands for several clips: {', '.join(found)}; write the path")
        near: list[str] = []
        if self._compared <= COMPARED:  # or many unknown names of many clips would take hours
            self._compared += len(self.clips)
            near = difflib.get_close_matches(name, [*self._levels[0], *self._levels[1], *self._levels[3]], n=1, cutoff=0.5)
        raise ValueError(f"there is no clip {name!r} in the directory{f'; did you mean {near[0]!r}?' if near else ''}")


def read_labels(path: Path, names: ClipNames, with_split: bool = True) -> tuple[list[Label], list[str]]:
    """Read the lines of a label CSV in their order.

    Args:
        with_split: every line must give its film's split; if False, the column may be absent or empty.

    Returns:
        The labels, and every malformed line as a problem.

    Raises:
        InputProblems: the file is not UTF-8.
    """
    problems: list[tuple[int, str]] = []
    labels: list[Label] = []
    splits: dict[str, Split | None] = {}
    needed, optional = ["clip", *["split"] * with_split, "label", "onset", "offset"], [*["split"] * (not with_split), "modality"]
    for line, record in read_records(path, needed, problems, SPELLINGS, optional):
        try:
            label = parse_record(record, f"{path}:{line}", names)
            if with_split and label.split is None:
                raise ValueError("the split is empty; `python -m pipeline new` draws the splits of films without one")
            if splits.setdefault(label.clip, label.split) != label.split:
                raise ValueError(f"{label.clip} is in {splits[label.clip]} as well as in {label.split}")
            labels.append(label)
        except ValueError as error:
            problems.append((line, str(error)))
    return labels, [f"line {line}: {problem}" for line, problem in problems]


def parse_record(record: dict[str, str], where: str, names: ClipNames) -> Label:
    """Parse one label line.

    Raises:
        ValueError: the line is malformed.
    """
    clip, split, modality = names.find(record["clip"].strip()), record.get("split", "").strip() or None, record.get("modality") or "av"
    label, onset, offset = (record[name].strip() for name in ("label", "onset", "offset"))
    if split is not None and split not in get_args(Split):
        raise ValueError(f"split {split!r} is not one of {', '.join(get_args(Split))}")
    if modality not in get_args(Modality):
        raise ValueError(f"modality {modality!r} is not one of {', '.join(get_args(Modality))}")
    if split == "negative" and (label or onset or offset):
        raise ValueError("a clip of the split negative has no event; leave label, onset and offset empty")
    event = make_event(label, onset, offset, modality) if label or onset or offset else None
    return Label(where, clip, split, event)  # type: ignore[arg-type]


def make_event(label: str, onset: str | float, offset: str | float, modality: str = "av") -> Event:
    """Make an event of a film.

    Raises:
        ValueError: without a label, or the times are no span.
    """
    if not label:
        raise ValueError("the label is empty")
    try:
        start, end = seconds_of(onset), seconds_of(offset)
    except ValueError:
        raise ValueError(f"onset {onset!r} or offset {offset!r} is not a number of seconds, nor a time like 1:05.5") from None
    if not 0 <= start < end < math.inf:
        raise ValueError(f"the span {start:g}-{end:g} s does not begin at 0 s or later, and end after it begins")
    return Event(modality, label, start, end)  # type: ignore[arg-type]


def seconds_of(time: str | float) -> float:
    """Seconds of a time given as a number of them, or as minutes and seconds (1:05.5), or with hours before.

    Raises:
        ValueError: it is neither.
    """
    *larger, seconds = str(time).strip().split(":")
    if len(larger) > 2 or not all(part.isdecimal() for part in larger) or (larger and not 0 <= float(seconds) < 60):
        raise ValueError(f"{time!r} is no time")
    return sum(int(part) * 60**power for power, part in enumerate(reversed(larger), 1)) + float(seconds)
