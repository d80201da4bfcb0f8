"""Find the length of films, in guarded child processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.media.container import MediaError
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.material import probe_material
from pipeline.media.probe import Probe
from pipeline.media.settings import MediaSettings
from pipeline.media.stream import packet_times


@dataclass(frozen=True)
class Length:
    """The length of a film in seconds; None where it cannot be read, with the reason in one line."""

    seconds: float | None
    reason: str = ""


def film_lengths(files: Iterable[str], settings: MediaSettings) -> dict[str, Length]:
    """Find the length of every film within the time and memory limits of ``settings``; never raises for bad media."""
    outcomes = run_guarded(
        _length,
        [(file, settings) for file in files],
        workers=settings.workers,
        timeout_seconds=settings.timeout_seconds,
        memory_mb=settings.memory_mb,
    )
    return {file: Length(None, outcome.reason) if isinstance(outcome, Failure) else outcome for (file, _), outcome in outcomes}


def _length(job: tuple[str, MediaSettings]) -> Length:
    """Find the length of one film; runs in a child process."""
    file, settings = job
    try:
        found = probe_material(file, settings)
        if found.video is None:
            return Length(None, "the file has no moving picture")
        return Length(length_of(file, found))
    except MediaError as error:
        return Length(None, error.reason)


def length_of(path: str | os.PathLike[str], found: Probe) -> float:
    """Length of a probed film with pictures, in seconds: as its container states it, else up to its last packet.

    Raises:
        MediaError: the packets cannot be read.
    """
    if found.duration:
        return found.duration
    assert found.video is not None
    streams = [stream for stream in (found.video, found.audio) if stream is not None]  # a live recording states 0 or nothing
    ends = [packet_times(path, stream.index, found.clock, float("inf")).times for stream in streams]
    return max(float(times[-1]) if len(times) else 0.0 for times in ends) + 1 / found.video.rate
