"""The decoding of one clip in a child process: its key, its verdict, and its entry in the cache.

An entry with frames and one without lie under two kinds, so neither is taken for the other.

Every child process imports this module, so it imports little: no pandas, no torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import Cache, CacheError, Store, file_sha256, fingerprint
from pipeline.media.clip import DecodedClip, decode_clip
from pipeline.media.handed import Handed
from pipeline.media.material import content_sha256
from pipeline.media.settings import MediaSettings

DECODE_VERSION = 3  # raised by hand whenever a code change moves decoded numbers
KIND = "decoded"  # verdict, frames and waveform; for a bad clip the verdict alone
VERDICTS = "verdicts"  # the same without frames
CHANGED = "changed"  # status of a file that differs from the index; it ends the stage and never reaches a manifest
# Settings that do not change what is decoded.
WORKING_SETTINGS = {"timeout_seconds", "memory_mb", "max_bad_fraction", "keep", "workers"}


@dataclass(frozen=True)
class Job:
    """One clip to decode in a child process.

    sha256: hash of the file's bytes; if not ``hashed``, a substitute for it in a cache that lasts no longer than the process.
    """

    clip: str
    file: str
    sha256: str
    start: float
    segments: int
    segment_seconds: float
    settings: MediaSettings
    cache_root: Path | Store
    hashed: bool = True

    @property
    def sampling(self) -> dict[str, Any]:
        """The media settings that move the numbers of any clip, as plain JSON."""
        return dict(_sampling(self.settings))

    @cached_property
    def key(self) -> str:
        rate = self.settings.pictures_per_second  # films state their own, and keep their keys whatever is set here
        rates = [] if rate is None or not os.path.isdir(self.file) else [rate]
        return fingerprint(DECODE_VERSION, self.sha256, self.start, self.segments, self.segment_seconds, self.sampling, *rates)


@dataclass(frozen=True)
class NotStored:
    """The cache could not be written; the clip itself may be good.

    A type of its own, so that an error of the cache is not taken for an error of the clip.
    """

    reason: str


def decode_into_cache(job: Job) -> dict[str, Any] | NotStored:
    """Decode one clip, stage what ``media.keep`` says under its key, and return the verdict. Runs in a child process.

    The parent delivers the entry if the cache is a store: an answer from there may take longer than the child's limits allow.

    Only verdicts that follow from the file and the settings are stored, not that a file is out of reach or that memory ran out.
    """
    return _decode(job, kind_of(job))[0]


def decode_and_hand_over(job: Job) -> Handed | dict[str, Any] | NotStored:
    """Like :func:`decode_into_cache`, and hand the arrays of a good clip over."""
    verdict, arrays = _decode(job, kind_of(job))
    return Handed(verdict, arrays) if arrays and isinstance(verdict, dict) else verdict


def decode_in_memory(job: Job) -> Handed | dict[str, Any] | NotStored:
    """Like :func:`decode_and_hand_over`, without an entry in the cache."""
    verdict, arrays = _decode(job, None)
    return Handed(verdict, arrays) if arrays else verdict


def kind_of(job: Job) -> str:
    """Kind of the entry that `decode` writes for a clip."""
    return VERDICTS if job.settings.keep == "verdicts" else KIND


def _decode(job: Job, kind: str | None) -> tuple[dict[str, Any] | NotStored, dict[str, np.ndarray]]:
    """Decode one clip, into an entry of ``kind`` unless that is None; return its verdict and a good one's arrays."""
    decoded = decode_clip(job.file, start=job.start, segments=job.segments, segment_seconds=job.segment_seconds, settings=job.settings)
    verdict = verdict_of(decoded)
    if job.hashed:
        try:
            content = content_sha256(job.file, job.settings.sounds, _sha256)
        except OSError as error:
            return {"status": "missing" if isinstance(error, FileNotFoundError) else "unreadable", "reason": str(error)}, {}
        if content != job.sha256:
            return {"status": CHANGED, "reason": f"{job.file} has the sha256 {content}, the index {job.sha256}"}, {}
    arrays = {}
    if decoded.frames is not None and decoded.waveform is not None:
        arrays = {"frames": decoded.frames, "waveform": decoded.waveform}
    try:
        if decoded.lasting and kind is not None:
            stored = {name: array for name, array in arrays.items() if kind == KIND or name != "frames"}
            Cache(job.cache_root).stage(kind, job.key, stored, verdict)
    except CacheError as error:
        return NotStored(str(error)), {}
    return verdict, arrays


@lru_cache(maxsize=16)
def _sampling(settings: MediaSettings) -> dict[str, Any]:
    return settings.sampling(WORKING_SETTINGS | {"pictures_per_second"})


def _sha256(file: str) -> str:
    """Hash a file, cached until it changes: many windows may lie in one film, or in one folder of pictures."""
    status = Path(file).stat()
    return _sha256_of(file, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2**16)  # an hour of pictures: a smaller one would hash them all again for each window
def _sha256_of(file: str, inode: int, size: int, changed: int) -> str:
    return file_sha256(file)


def verdict_of(decoded: DecodedClip) -> dict[str, Any]:
    """The manifest's facts of a clip: everything but its arrays, as plain JSON."""
    return {
        **decoded.facts,
        "status": decoded.status,
        "reason": decoded.reason,
        "seconds": decoded.seconds,
        "video_coverage": decoded.video_coverage,
        "audio_coverage": decoded.audio_coverage,
        "visual_valid": [bool(valid) for valid in decoded.visual_valid],
        "audio_valid": [bool(valid) for valid in decoded.audio_valid],
        "sample_rate": decoded.sample_rate,
        "decoder": decoded.decoder,
    }
