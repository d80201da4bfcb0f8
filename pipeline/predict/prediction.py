"""What is known of a file once a trained run has seen it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.report.preview import Preview
from pipeline.tasks.tracks import FoundEvent, Tracks, events


@dataclass(frozen=True)
class WindowReport:
    """One window: where it starts (seconds), how many segments of the file it answers for, and how it was decoded.

    ``status`` and ``reason`` as in :class:`pipeline.media.clip.DecodedClip`. A window that is not ``good`` has no scores.
    """

    start: float
    segments: int
    status: str
    reason: str
    good: bool


@dataclass(frozen=True)
class Prediction:
    """The joined answer for one file. Letters: T segments of the file, C classes, h x w positions of the visual map.

    path, seconds: the file and its length.
    run, seed, task, method, features: what predicted it.
    segment_seconds, window_segments: how it was cut.
    tracks: decisions and scores, T segments.
    attention: (T, h, w) float32, weight of each position, summing to 1 over them, 0 where not decoded; None without spatial attention.
    transform: of the visual encoder, which says what part of a frame the map covers.
    windows: in order.
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

    @property
    def events(self) -> list[FoundEvent]:
        """By start; an event that runs on across a border of windows is one event."""
        return events(self.tracks, self.segment_seconds, self.seconds)

    @property
    def problems(self) -> list[str]:
        """A sentence for every window that could not be decoded, and so is not answered."""
        return [
            f"{window.start:g} s to {window.start + window.segments * self.segment_seconds:g} s: {window.status}: {window.reason}"
            for window in self.windows
            if not window.good
        ]
