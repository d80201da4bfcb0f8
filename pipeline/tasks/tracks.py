"""A task's answer over consecutive segments, in one form for files, pictures and the command line.

Shape letters: T segments, C classes (background not counted).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

TrackName = Literal["audio", "visual", "audio_visual"]


@dataclass(frozen=True)
class FoundEvent:
    """A class over a span of time: [start, end) in seconds, its score, and its modality.

    The score is the mean over its segments, or that of a detection.
    """

    start: float
    end: float
    label: str
    score: float
    modality: TrackName

    def __str__(self) -> str:
        """Format as "2.0-6.0 s  Dog  0.93 (audio-visual)"."""
        return f"{self.start:.1f}-{self.end:.1f} s  {self.label}  {self.score:.2f} ({in_words(self.modality)})"


@dataclass(frozen=True)
class Tracks:
    """Per-class decisions and scores over time.

    A task fills the tracks it has: ``audio_visual`` for audio-visual event localization, ``audio`` and ``visual`` for parsing.

    classes: C names.
    scores: by track (T, C) float32, probability of the class; 0 where not ``valid``.
    active: by track (T, C) bool, the task's decision; False where not ``valid``.
    valid: (T,) bool; False for unknown segments, which could not be decoded.
    found: the events, from a task that finds spans: real-valued, and possibly overlapping in one class; None: the runs of ``active``.
    """

    classes: tuple[str, ...]
    scores: dict[TrackName, np.ndarray]
    active: dict[TrackName, np.ndarray]
    valid: np.ndarray
    found: tuple[FoundEvent, ...] | None = None

    def __len__(self) -> int:
        return len(self.valid)

    def part(self, segments: slice) -> Tracks:
        """The tracks of some consecutive segments; ``found`` stays whole."""
        return Tracks(
            self.classes,
            {name: part[segments] for name, part in self.scores.items()},
            {name: part[segments] for name, part in self.active.items()},
            self.valid[segments],
            self.found,
        )

    def unknown(self, segments: int) -> Tracks:
        """An all-unknown Tracks of this many segments, with the same classes and tracks."""
        shape = (segments, len(self.classes))
        return Tracks(
            self.classes,
            {name: np.zeros(shape, np.float32) for name in self.scores},
            {name: np.zeros(shape, bool) for name in self.active},
            np.zeros(segments, bool),
        )


def join(parts: Sequence[Tracks]) -> Tracks:
    """Concatenate tracks over time; all must have the same classes and track names."""
    return Tracks(
        parts[0].classes,
        {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
        {name: np.concatenate([part.active[name] for part in parts]) for name in parts[0].active},
        np.concatenate([part.valid for part in parts]),
    )


def in_words(track: TrackName) -> str:
    """The track's name in prose: "audio-visual"."""
    return track.replace("_", "-")


def runs(active: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield [first, end) of every unbroken stretch of True in a (T,) bool vector."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def events(tracks: Tracks, segment_seconds: float, seconds: float | None = None) -> list[FoundEvent]:
    """Events of all classes and tracks, sorted by start, then label.

    Args:
        tracks: the answer.
        segment_seconds: length of a segment.
        seconds: length of the file; no event ends later.
    """
    limit = len(tracks) * segment_seconds if seconds is None else seconds
    if tracks.found is not None:
        return [replace(event, end=min(event.end, limit)) for event in tracks.found if event.start < limit]
    found = [
        FoundEvent(
            start=first * segment_seconds,
            end=min(end * segment_seconds, limit),
            label=label,
            score=float(tracks.scores[name][first:end, number].mean(dtype=np.float64)),
            modality=name,
        )
        for name, active in tracks.active.items()
        for number, label in enumerate(tracks.classes)
        for first, end in runs(active[:, number])
    ]
    return sorted(found, key=lambda event: (event.start, event.label, event.modality))


def named(tracks: Tracks, segment: int) -> str:
    """The events of one segment, e.g. "Dog (audio-visual); Bell (audio)"; empty for background."""
    active = [(tracks.classes[number], name) for name, part in tracks.active.items() for number in np.flatnonzero(part[segment])]
    return "; ".join(f"{label} ({in_words(name)})" for label, name in active)
