"""The decoding of one clip in a child process: its key, its verdict, and its entry in the cache.

Every child process imports this module, so it imports little: no pandas, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pipeline.cache import Cache, CacheError, Store, file_sha256, fingerprint
from pipeline.media.clip import DecodedClip, decode_clip
from pipeline.media.settings import MediaSettings

DECODE_VERSION = 3  # raised by hand whenever a code change moves decoded numbers
KIND = "decoded"
CHANGED = "changed"  # status of a file that differs from the index; it ends the stage and never reaches a manifest
# Settings that do not change what is decoded.
WORKING_SETTINGS = {"timeout_seconds", "memory_mb", "max_bad_fraction", "workers"}


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
        """The media settings that move numbers, as plain JSON."""
        return dict(_sampling(self.settings))

    @cached_property
    def key(self) -> str:
        return fingerprint(DECODE_VERSION, self.sha256, self.start, self.segments, self.segment_seconds, self.sampling)


@dataclass(frozen=True)
class NotStored:
    """The cache could not be written; the clip itself may be good.

    A type of its own, so that an error of the cache is not taken for an error of the clip.
    """

    reason: str


def decode_into_cache(job: Job) -> dict[str, Any] | NotStored:
    """Decode one clip, stage arrays and verdict under its key, and return the verdict. Runs in a child process.

    The parent delivers the entry if the cache is a store: an answer from there may take longer than the child's limits allow.

    Only verdicts that follow from the file and the settings are stored, not that a file is out of reach or that memory ran out.
    """
    decoded = decode_clip(job.file, start=job.start, segments=job.segments, segment_seconds=job.segment_seconds, settings=job.settings)
    verdict = verdict_of(decoded)
    if job.hashed:
        try:
            content = _sha256(job.file)
        except OSError as error:
            return {"status": "missing" if isinstance(error, FileNotFoundError) else "unreadable", "reason": str(error)}
        if content != job.sha256:
            return {"status": CHANGED, "reason": f"{job.file} has the sha256 {content}, the index {job.sha256}"}
    arrays = {}
    if decoded.frames is not None and decoded.waveform is not None:
        arrays = {"frames": decoded.frames, "waveform": decoded.waveform}
    try:
        if decoded.lasting:
            Cache(job.cache_root).stage(KIND, job.key, arrays, verdict)
    except CacheError as error:
        return NotStored(str(error))
    return verdict


@lru_cache(maxsize=16)
def _sampling(settings: MediaSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude=WORKING_SETTINGS)


def _sha256(file: str) -> str:
    """Hash a file, cached until it changes: many windows may lie in one file."""
    status = Path(file).stat()
    return _sha256_of(file, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
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
