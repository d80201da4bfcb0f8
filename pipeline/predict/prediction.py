"""The prediction of a trained run for one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.report.preview import Preview
from pipeline.tasks.tracks import FoundEvent, Tracks, events
from pipeline.training.members import Member


@dataclass(frozen=True)
class WindowReport:
    """One window: its start in seconds, the number of the file's segments in it, and how it was decoded.

    Windows of a task that joins spans overlap by half.

    ``status`` and ``reason`` are those of :class:`pipeline.media.clip.DecodedClip`. A window that is not ``good`` has no scores.
    """

    start: float
    segments: int
    status: str
    reason: str
    good: bool


@dataclass(frozen=True)
class Prediction:
    """The joined result for one file; letters: T segments of the file, h x w positions of the visual map.

    path, seconds: the file and its length.
    run, seed, task, method, features: the run that predicted it; fold: of a run with folds, whose network of the seed it was.
    segment_seconds, window_segments: how the file was cut.
    tracks: decisions and scores, T segments.
    attention: (T, h, w) float32, weights of the positions, summing to 1, or 0 where not decoded; None without spatial attention.
    transform: the visual encoder's transform, which determines the part of a frame that the map covers.
    windows: reports on the windows, in order.
    preview: pictures of some segments, and the loudness.
    """

    path: Path
    seconds: float
    run: str
    seed: int
    task: str
    method: str
    features: str
    segment_seconds: float
    window_segments: int
    tracks: Tracks
    attention: np.ndarray | None
    transform: dict[str, Any]
    windows: list[WindowReport]
    preview: Preview
    fold: int | None = None

    @property
    def member(self) -> Member:
        return Member(self.seed, self.fold)

    @property
    def events(self) -> list[FoundEvent]:
        """The events, ordered by start; an event that continues across windows is one event."""
        return events(self.tracks, self.segment_seconds, self.seconds)

    @property
    def problems(self) -> list[str]:
        """A sentence for every window that could not be decoded, on the part that no other window holds."""
        found = []
        for window in self.windows:
            first = round(window.start / self.segment_seconds)
            unknown = np.flatnonzero(~self.tracks.valid[first : first + window.segments])
            if not window.good and len(unknown):
                begin, end = (window.start + edge * self.segment_seconds for edge in (int(unknown[0]), int(unknown[-1]) + 1))
                found.append(f"{begin:g} s to {end:g} s: {window.status}: {window.reason}")
        return found
