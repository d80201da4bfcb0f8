"""Whether decord and PyAV show the same picture at the same time, file by file; benchmarks/decoders.py prints it.

decord is asked twice: as the pipeline asks it (its frame times checked against the container's packets, refused where they differ) and
raw, as scripts do, its frame times taken at their word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.media.container import MediaError
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.probe import probe
from pipeline.media.stream import TICK
from pipeline.media.video import read_frames

SIZE = 64  # pixels of the short side
LIMITS = {"timeout_seconds": 60.0, "memory_mb": 4096}


@dataclass(frozen=True)
class Comparison:
    """PyAV against decord at some times of the first seconds.

    frame: seconds of one frame.
    raw: largest difference in seconds between the starts of the pictures shown, decord unchecked; None where it raises.
    checked: the same as the pipeline asks decord; None where refused, for the ``reason``.
    grey: largest mean difference of the pictures then, in grey levels: the time a decoder states need not be that of what it shows.
    """

    frame: float
    raw: float | None
    checked: float | None
    grey: float
    reason: str


def compare(path: str, seconds: float = 10.0, pictures: int = 20) -> Comparison | None:
    """Compare so many pictures of the first ``seconds``; None for a file that PyAV does not read, or without pictures.

    Runs in a child process.
    """
    try:
        found = probe(path)
        if found.video is None:
            return None
        seconds = min(seconds, found.video.duration or found.duration or seconds)
        times = found.video.start + (np.arange(pictures) + 0.5) / pictures * seconds
        ours = read_frames(path, times, found, "pyav", SIZE)
    except MediaError:
        return None
    raw = _raw(path, ours.times, times)
    frame = 1 / found.video.rate
    try:
        theirs = read_frames(path, times, found, "decord", SIZE)
    except MediaError as error:
        return Comparison(frame, raw, None, 0.0, error.reason)
    grey = np.abs(ours.images.astype(np.int16) - theirs.images.astype(np.int16)).mean(axis=(1, 2, 3)).max()
    return Comparison(frame, raw, float(np.abs(ours.times - theirs.times).max()), float(grey), "")


def _raw(path: str, shown: np.ndarray, times: np.ndarray) -> float | None:
    import decord  # x86-64 wheels only

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(path, num_threads=1)
        starts = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)[:, 0]
    except Exception:  # decord raises its own errors and plain ones alike
        return None
    chosen = np.maximum(np.searchsorted(starts, times + TICK, "right") - 1, 0)
    return float(np.abs(starts[chosen] - shown).max())


def compare_all(files: list[str], workers: int, **extent: float) -> dict[str, Comparison | Failure | None]:
    """:func:`compare` every file, by its path; ``extent``: its ``seconds`` and ``pictures``."""
    return dict(run_guarded(partial(compare, **extent), files, workers=workers, **LIMITS))
