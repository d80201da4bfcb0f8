"""Decode a file of any length as a stream of windows: a few on disk, one in memory.

Windows do not overlap. Each looks exactly like a training clip, so its scores are those that `evaluate` would give for it as a clip, and
every second is scored once. (Overlapping windows would need averaging, which has no meaning for methods with one class per window.)
Scores are joined end to end, and a sequence of active segments across a border is one event.
The last window is padded like a short clip: the last frame repeated, silence, and a mask. A rest shorter than half a segment, such as the
24 ms that encoders add after ten seconds, gets no window.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import Cache, fingerprint
from pipeline.media.clip import GOOD
from pipeline.media.decoding import decode_each, load_decoded
from pipeline.media.job import KIND, Job
from pipeline.media.settings import MediaSettings
from pipeline.text import printable


@dataclass(frozen=True)
class Windowing:
    """How files are cut: windows of T segments of ``segment_seconds``."""

    segments: int
    segment_seconds: float

    @property
    def seconds(self) -> float:
        return self.segments * self.segment_seconds

    def windows(self, seconds: float) -> int:
        """The number of windows of a file of that length, at least one."""
        return max(1, math.ceil((seconds - self.segment_seconds / 2) / self.seconds))


@dataclass(frozen=True)
class Decoded:
    """One decoded window: its number in the file, its job and its verdict; the arrays are loaded on demand."""

    number: int
    job: Job
    verdict: dict[str, Any]

    @property
    def good(self) -> bool:
        return self.verdict["status"] in GOOD

    def arrays(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Load (frames, waveform, sample rate), see :func:`pipeline.media.decoding.load_decoded`."""
        return load_decoded(Cache(self.job.cache_root), self.job.clip, self.job.key, self.job)


def decode_windows(path: Path, seconds: float, windowing: Windowing, settings: MediaSettings, cache: Cache) -> Generator[Decoded]:
    """Yield every window of a file once, as it is decoded.

    Close the iterator before removing the cache, to end the child processes.

    Args:
        cache: a scratch cache; a window's arrays are removed from it when the next window is requested.

    Raises:
        PipelineError: the cache cannot be written.
    """
    status = path.stat()
    identity = fingerprint(str(path.absolute()), status.st_size, status.st_mtime_ns)  # for the scratch cache; cheaper than hashing
    jobs = (
        Job(
            clip=f"{printable(path.name)}@{number * windowing.seconds:g}",
            file=str(path.absolute()),
            sha256=identity,
            start=number * windowing.seconds,
            segments=windowing.segments,
            segment_seconds=windowing.segment_seconds,
            settings=settings,
            cache_root=cache.root,
            hashed=False,
        )
        for number in range(windowing.windows(seconds))
    )
    for job, verdict in decode_each(jobs, settings):
        try:
            yield Decoded(round(job.start / windowing.seconds), job, verdict)
        finally:
            cache.path(KIND, job.key).unlink(missing_ok=True)
