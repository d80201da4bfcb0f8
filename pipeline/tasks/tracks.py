"""What any task says of consecutive segments, in one form that files, pictures and the command line share.

Shape letters: T segments, C classes (background not counted).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

TrackName = Literal["audio", "visual", "audio_visual"]


@dataclass(frozen=True)
class Tracks:
    """Per-class decisions and scores over time. A task fills the tracks it knows: audio-visual event localization ``audio_visual`` alone;
    parsing, which tells the modalities apart, ``audio`` and ``visual``, and ``audio_visual`` where they coincide.

    classes: C names.
    scores: by track (T, C) float32, probability of the class; 0 where not ``valid``.
    active: by track (T, C) bool, the task's decision; False where not ``valid``.
    valid: (T,) bool; False where nothing is known of a segment, because it could not be decoded.
    """

    classes: tuple[str, ...]
    scores: dict[TrackName, np.ndarray]
    active: dict[TrackName, np.ndarray]
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.valid)

    def part(self, segments: slice) -> Tracks:
        """Some consecutive segments."""
        return Tracks(
            self.classes,
            {name: part[segments] for name, part in self.scores.items()},
            {name: part[segments] for name, part in self.active.items()},
            self.valid[segments],
        )

    def unknown(self, segments: int) -> Tracks:
        """So many segments of which nothing is known, with the same classes and tracks."""
        shape = (segments, len(self.classes))
        return Tracks(
            self.classes,
            {name: np.zeros(shape, np.float32) for name in self.scores},
            {name: np.zeros(shape, bool) for name in self.active},
            np.zeros(segments, bool),
        )


def join(parts: Sequence[Tracks]) -> Tracks:
    """Tracks end to end. All have the same classes and names."""
    return Tracks(
        parts[0].classes,
        {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
        {name: np.concatenate([part.active[name] for part in parts]) for name in parts[0].active},
        np.concatenate([part.valid for part in parts]),
    )


@dataclass(frozen=True)
class FoundEvent:
    """A class over an unbroken run of segments: [start, end) in seconds, the mean of its scores, and its modality."""

    start: float
    end: float
    label: str
    score: float
    modality: TrackName

    def __str__(self) -> str:
        """E.g. "2.0-6.0 s  Dog  0.93 (audio-visual)"."""
        return f"{self.start:.1f}-{self.end:.1f} s  {self.label}  {self.score:.2f} ({in_words(self.modality)})"


def in_words(track: TrackName) -> str:
    """The track's name as people write it: "audio-visual"."""
    return track.replace("_", "-")


def runs(active: np.ndarray) -> Iterator[tuple[int, int]]:
    """[first, end) of every unbroken run of True in a (T,) bool vector."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def events(tracks: Tracks, segment_seconds: float, seconds: float | None = None) -> list[FoundEvent]:
    """Every run of every class on every track, by start, then label.

    Args:
        segment_seconds: length of a segment.
        seconds: end of the file, where the last event ends at the latest.
    """
    limit = len(tracks) * segment_seconds if seconds is None else seconds
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
