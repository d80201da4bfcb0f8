"""All clips of an index through the guarded decoder into the per-clip cache, with a verdict for every one.

What a clip's decoded form depends on is in its key: the file's bytes, the window, and the media settings that move numbers. Two ids with
the same bytes therefore share one entry, and a clip decoded once is not decoded again by an interrupted or repeated stage.

Nothing is stored under a key that is not its own: the file's hash is taken again when it was decoded, and a job is never asked for an entry
of another key, as after a change of ``media`` that `decode` has not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from pipeline.cache import Cache, CacheError, file_sha256, fingerprint
from pipeline.errors import PipelineError, naming_clips
from pipeline.media.clip import BAD, DecodedClip, decode_clip
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.settings import MediaSettings

DECODE_VERSION = 3  # raised by hand whenever a code change moves decoded numbers
KIND = "decoded"
CHANGED = "changed"  # status of a file that is not the one in the index any more; it ends the stage and reaches no manifest
NAMED = 10  # clips in a message about many
# Settings that say how to work, not what comes out.
WORKING_SETTINGS = {"timeout_seconds", "memory_mb", "max_bad_fraction", "workers"}
# Order and types are fixed, so that the manifest's bytes do not depend on what was in the cache.
SCHEMA = pa.schema([
    ("clip", pa.string()), ("file", pa.string()), ("key", pa.string()), ("status", pa.string()), ("reason", pa.string()),
    ("seconds", pa.float64()), ("video_coverage", pa.float64()), ("audio_coverage", pa.float64()),
    ("visual_valid", pa.list_(pa.bool_())), ("audio_valid", pa.list_(pa.bool_())), ("decoder", pa.string()),
    ("container", pa.string()), ("duration", pa.float64()), ("width", pa.int64()), ("height", pa.int64()), ("fps", pa.float64()),
    ("rotation", pa.int64()), ("video_codec", pa.string()), ("audio_codec", pa.string()), ("sample_rate", pa.int64()),
    ("channels", pa.int64()), ("video_track", pa.string()), ("audio_track", pa.string()),
])  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One clip to decode in a child process.

    sha256: of the file's bytes; or, not ``hashed``, what stands for them in a cache that lasts no longer than the process.
    """

    clip: str
    file: str
    sha256: str
    start: float
    segments: int
    segment_seconds: float
    settings: MediaSettings
    cache_root: Path
    hashed: bool = True

    @property
    def sampling(self) -> dict[str, Any]:
        """The media settings that move numbers, as plain JSON."""
        return self.settings.model_dump(mode="json", exclude=WORKING_SETTINGS)

    @property
    def key(self) -> str:
        return fingerprint(DECODE_VERSION, self.sha256, self.start, self.segments, self.segment_seconds, self.sampling)


def make_jobs(
    index: pd.DataFrame, segments: int, segment_seconds: float, settings: MediaSettings, cache: Cache
) -> tuple[dict[str, Job], list[str]]:
    """(job by clip id, ids of the clips without a readable file): one job per clip, whatever the number of its annotation rows."""
    clips = index.drop_duplicates("clip")
    jobs = {
        row.clip: Job(row.clip, row.file, row.sha256, row.start, segments, segment_seconds, settings, cache.root)
        for row in clips[clips["sha256"].notna()].itertuples()
    }
    return jobs, sorted(set(clips["clip"]) - set(jobs))


@dataclass(frozen=True)
class NotStored:
    """A clip that may well be good, and a cache that cannot be written. Told apart by where it arose, not by the name of the error."""

    reason: str


def decode_into_cache(job: Job) -> dict[str, Any] | NotStored:
    """Decode one clip and store arrays and verdict under its key; returns the verdict. Runs in a child process.

    Only what follows from the file and the settings is stored: not that a file cannot be reached, nor that memory ran out.
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
            Cache(job.cache_root).put(KIND, job.key, arrays, verdict)
    except CacheError as error:
        return NotStored(str(error))
    return verdict


def _sha256(file: str) -> str:
    """Of a file, read once as long as it is not touched: many windows may lie in one."""
    status = Path(file).stat()
    return _sha256_of(file, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _sha256_of(file: str, inode: int, size: int, changed: int) -> str:
    return file_sha256(file)


def verdict_of(decoded: DecodedClip) -> dict[str, Any]:
    """What the manifest says of a clip: everything but its arrays, as plain JSON."""
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


def decode_clips(jobs: list[Job], missing: list[str], settings: MediaSettings) -> pd.DataFrame:
    """Decode what the cache does not hold.

    Args:
        jobs: one per clip that has a file.
        missing: ids of clips without a file.

    Returns:
        One row per clip, sorted by id: clip, file, key and the verdict's columns.

    Raises:
        PipelineError: the cache cannot be read or written; or files are not those of the index any more.
    """
    verdicts = {job.clip: verdict for job in jobs if (verdict := Cache(job.cache_root).facts(KIND, job.key)) is not None}
    todo = list({job.key: job for job in jobs if job.clip not in verdicts}.values())
    print(f"decode: {len(todo)} of {len(jobs) + len(missing)} clips decoded now, the others are in the cache or missing", flush=True)
    done = tqdm(decode_each(todo, settings), total=len(todo), desc="decode", unit="clip", disable=None)
    by_key = {job.key: verdict for job, verdict in done}
    changed = [f"{job.clip}: {by_key[job.key]['reason']}" for job in todo if by_key[job.key]["status"] == CHANGED]
    if changed:
        raise PipelineError(
            f"{len(changed)} files are not those that `index` has seen; run `dvc repro decode` (or: python -m stages.index, then"
            f" python -m stages.decode):{_listed(changed)}"
        )
    rows = [{"clip": job.clip, "file": job.file, "key": job.key, **(verdicts.get(job.clip) or by_key[job.key])} for job in jobs]
    rows += [{"clip": clip, "file": None, "key": None, "status": "missing", "reason": "no file of this id"} for clip in missing]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["clip"]), SCHEMA).to_pandas()


def decode_each(jobs: Iterable[Job], settings: MediaSettings) -> Iterator[tuple[Job, dict[str, Any]]]:
    """(job, verdict) of every job as it is done, arrays in the job's cache; at most ``settings.workers`` jobs are ahead of the consumer.

    Raises:
        PipelineError: the cache cannot be written.
    """
    outcomes = run_guarded(
        decode_into_cache, jobs, workers=settings.workers, timeout_seconds=settings.timeout_seconds, memory_mb=settings.memory_mb
    )
    for job, outcome in outcomes:
        yield job, _verdict(job, outcome)


def _verdict(job: Job, outcome: dict[str, Any] | NotStored | Failure) -> dict[str, Any]:
    """The verdict of a job's outcome. That of a clip that took its child process down is not kept, so a later run tries again.

    Raises:
        PipelineError: what failed was not the clip but the writing of its cache entry.
    """
    if isinstance(outcome, NotStored):
        raise PipelineError(f"clip {job.clip!r}: {outcome.reason}")
    return outcome if isinstance(outcome, dict) else {"status": outcome.status, "reason": outcome.reason}


def check_manifest(manifest: pd.DataFrame, jobs: Mapping[str, Job]) -> None:
    """Make sure that `decode` read the clips as the settings and the index now say: a key of the manifest is that of the clip's job.

    Args:
        manifest: as :func:`decode_clips` returns it.
        jobs: by clip id, made from today's settings and index.

    Raises:
        PipelineError: a clip was decoded otherwise, or not at all; names the first ones and the stage to run.
    """
    keys = dict(zip(manifest["clip"], manifest["key"], strict=True))
    stale = [clip for clip, key in keys.items() if (jobs[clip].key if clip in jobs else None) != (None if pd.isna(key) else key)]
    stale += [clip for clip in jobs if clip not in keys]
    if stale:
        raise PipelineError(
            f"{len(stale)} of {len(keys)} clips were not decoded as `media`, `dataset` and data/index now say, so that what is known of"
            f" them is not of the frames and sounds meant; run `dvc repro decode` (or: python -m stages.decode):{_listed(sorted(stale))}"
        )


def _listed(lines: list[str]) -> str:
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return "".join(f"\n  - {line}" for line in [*lines[:NAMED], *more])


def load_decoded(cache: Cache, clip: str, key: str, job: Job | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """(frames (T*F, H, W, 3) uint8, waveform (L,) float32, sample rate in Hz) of a clip with a good verdict.

    An entry that was evicted or damaged since ``decode`` ran is decoded again through ``job``.

    Raises:
        PipelineError: the clip cannot be decoded any more, or ``job`` would decode it otherwise than ``key`` says; names it.
    """
    if job is not None and job.key != key:
        raise PipelineError(
            f"clip {clip!r} was not decoded as `media`, `dataset` and data/index now say; run `dvc repro decode`"
            " (or: python -m stages.decode)"
        )
    with naming_clips([clip], "its decoded form"):
        entry = cache.get(KIND, key)
        if entry is None and job is not None:
            decode_clips([job], [], job.settings)
            entry = cache.get(KIND, key)
    if entry is None or "frames" not in entry[0]:
        raise PipelineError(f"clip {clip!r}: its decoded form is not in the cache {cache.root} any more and its file no longer decodes")
    arrays, facts = entry
    return arrays["frames"], arrays["waveform"], int(facts["sample_rate"])


def summary(manifest: pd.DataFrame) -> str:
    """One line: how many clips have which status."""
    counts = Counter(manifest["status"])
    return f"{len(manifest)} clips: " + ", ".join(f"{count} {status}" for status, count in counts.most_common())


def longer_than_window(manifest: pd.DataFrame, jobs: Mapping[str, Job]) -> int:
    """How many clips go on for half a segment or more behind the window that is read of them."""
    count = 0
    for clip, duration in zip(manifest["clip"], manifest["duration"], strict=True):
        job = jobs.get(clip)
        count += job is not None and duration >= job.start + (job.segments + 0.5) * job.segment_seconds  # False for NaN
    return count


def check_bad_share(manifest: pd.DataFrame, limit: float) -> None:
    """Stop where too many clips are bad.

    Raises:
        PipelineError: with the count by status and the ten clips that come first by status and id.
    """
    bad = manifest[manifest["status"].isin(BAD)].sort_values(["status", "clip"])
    if len(bad) <= limit * len(manifest):
        return
    worst = "\n".join(f"  - {row.clip}: {row.status}: {row.reason}" for row in bad.head(10).itertuples())
    raise PipelineError(
        f"{len(bad)} of {len(manifest)} clips are bad, more than media.max_bad_fraction = {limit:g} allows ({summary(manifest)}):\n"
        f"{worst}\n"
        "Mend or replace them, or raise media.max_bad_fraction."
    )
