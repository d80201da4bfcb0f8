"""What the readers of annotation programs' files have in common."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """One labelled span of a film.

    where: file and place in it, for messages.
    film: name of the film's file, as the annotation file has it.
    onset, offset: seconds of the film, as read.
    """

    where: str
    film: str
    label: str
    onset: str | float
    offset: str | float


@dataclass
class Found:
    """What a file holds.

    films: every film that it annotates, with or without a span.
    problems: lines that cannot be read.
    notes: what was left out on purpose.
    tiers: ELAN's tiers that hold a span.
    """

    films: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tiers: set[str] = field(default_factory=set)


def file_name(path: str) -> str:
    """The last part of a path or address, of Unix or Windows."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
