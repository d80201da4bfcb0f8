"""A file of any length as a stream of decoded windows, a few at a time on disk and none in memory but the one in hand.

Windows do not overlap. Each is then exactly what the run was trained and evaluated on, so its scores are those that `evaluate` would give
for it as a clip, and every second is judged once; methods with a clip-level head (one class per window) have no meaning between two
windows that an average could express. Scores are laid end to end, and a run of segments that goes on across a border is one event.

The last window is padded as short clips are: the last frame repeated, silence, and a mask. A rest shorter than half a segment, such as the
24 ms that encoders leave behind ten seconds, makes no window of its own.
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
from pipeline.media.decoding import KIND, Job, decode_each, load_decoded
from pipeline.media.settings import MediaSettings
from pipeline.text import printable


@dataclass(frozen=True)
class Windowing:
    """How files are cut: T segments of ``segment_seconds`` in a window."""

    segments: int
    segment_seconds: float

    @property
    def seconds(self) -> float:
        return self.segments * self.segment_seconds

    def windows(self, seconds: float) -> int:
        """How many windows a file of that length has; at least one."""
        return max(1, math.ceil((seconds - self.segment_seconds / 2) / self.seconds))


@dataclass(frozen=True)
class Decoded:
    """One decoded window: its number in the file, the job (its id names it), and the verdict. Arrays are loaded when asked for."""

    number: int
    job: Job
    verdict: dict[str, Any]

    @property
    def good(self) -> bool:
        return self.verdict["status"] in GOOD

    def arrays(self) -> tuple[np.ndarray, np.ndarray, int]:
        """(frames, waveform, sample rate), see :func:`pipeline.media.decoding.load_decoded`."""
        return load_decoded(Cache(self.job.cache_root), self.job.clip, self.job.key, self.job)


def decode_windows(path: Path, seconds: float, windowing: Windowing, settings: MediaSettings, cache: Cache) -> Generator[Decoded]:
    """Every window of a file once, as they get ready.

    Args:
        cache: a scratch cache; the arrays of a window are removed from it when the next one is asked for.
        Close the iterator to end the child processes before that cache goes.

    Raises:
        PipelineError: the cache cannot be written.
    """
    status = path.stat()
    identity = fingerprint(str(path.absolute()), status.st_size, status.st_mtime_ns)  # for the scratch cache; cheaper than its bytes
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
