"""Decode a file of any length as a stream of windows: a few on disk, one in memory.

Windows are those of :class:`pipeline.media.windowing.Windowing`, so a window's scores are those that `evaluate` would give for it as a
clip. Where they do not overlap, every second is scored once, scores are joined end to end, and a sequence of active segments across a
border is one event. The last window is padded like a short clip: the last frame repeated, silence, and a mask.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import Cache, fingerprint
from pipeline.media.clip import GOOD
from pipeline.media.decoding import decode_each, load_decoded
from pipeline.media.job import KIND, Job
from pipeline.media.settings import MediaSettings
from pipeline.media.windowing import Windowing
from pipeline.text import printable


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
    jobs = [replace(job, hashed=False) for job in window_jobs(path, identity, seconds, windowing, settings, cache)]
    for job, verdict in decode_each(jobs, settings):
        try:
            yield Decoded(round(job.start / windowing.hop_seconds), job, verdict)
        finally:
            cache.remove(KIND, job.key)


def window_jobs(path: Path, sha256: str, seconds: float, windowing: Windowing, settings: MediaSettings, cache: Cache) -> list[Job]:
    """Make the jobs of all windows of a film of that length, in order; ids are unique among its windows.

    Their frames are stored, whatever ``media.keep`` says: the cache is a scratch one, and whoever takes a window removes it.
    """
    return [
        Job(
            clip=f"{printable(path.name)}@{start:g}",
            file=str(path.absolute()),
            sha256=sha256,
            start=start,
            segments=windowing.segments,
            segment_seconds=windowing.segment_seconds,
            settings=settings.model_copy(update={"keep": "frames"}),
            cache_root=cache.root,
        )
        for start in windowing.starts(seconds)
    ]


def segments_inside(job: Job, seconds: float) -> int:
    """Count the segments of a window that begin inside its film of that length; at least one."""
    return max(1, min(job.segments, math.ceil((seconds - job.start) / job.segment_seconds - 1e-9)))
