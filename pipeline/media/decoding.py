"""All clips of an index through the guarded decoder into the per-clip cache, with a verdict for every one.

What a clip's decoded form depends on is in its key: the file's bytes, the window, and the media settings that move numbers. Two ids with
the same bytes therefore share one entry, and a clip decoded once is not decoded again by an interrupted or repeated stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from pipeline.cache import Cache, fingerprint
from pipeline.errors import PipelineError
from pipeline.media.clip import BAD, DecodedClip, decode_clip
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.settings import MediaSettings

DECODE_VERSION = 3  # raised by hand whenever a code change moves decoded numbers
KIND = "decoded"
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
    """One clip to decode in a child process."""

    clip: str
    file: str
    sha256: str
    start: float
    segments: int
    segment_seconds: float
    settings: MediaSettings
    cache_root: Path

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


def decode_into_cache(job: Job) -> dict[str, Any]:
    """Decode one clip and store arrays and verdict under its key; returns the verdict. Runs in a child process."""
    decoded = decode_clip(job.file, start=job.start, segments=job.segments, segment_seconds=job.segment_seconds, settings=job.settings)
    verdict = verdict_of(decoded)
    arrays = {}
    if decoded.frames is not None and decoded.waveform is not None:
        arrays = {"frames": decoded.frames, "waveform": decoded.waveform}
    Cache(job.cache_root).put(KIND, job.key, arrays, verdict)
    return verdict


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
    """
    verdicts = {job.clip: verdict for job in jobs if (verdict := Cache(job.cache_root).facts(KIND, job.key)) is not None}
    todo = list({job.key: job for job in jobs if job.clip not in verdicts}.values())
    print(f"decode: {len(todo)} of {len(jobs) + len(missing)} clips decoded now, the others are in the cache or missing", flush=True)
    done = tqdm(decode_each(todo, settings), total=len(todo), desc="decode", unit="clip", disable=None)
    by_key = {job.key: verdict for job, verdict in done}
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
        yield job, outcome if isinstance(outcome, dict) else _failure(job, outcome)


def _failure(job: Job, outcome: Failure) -> dict[str, Any]:
    """The verdict of a clip that took its child process down; not kept in the cache, so a later run tries again.

    Raises:
        PipelineError: what failed was not the clip but the writing of its cache entry.
    """
    if outcome.reason.startswith("OSError"):
        raise PipelineError(f"clip {job.clip!r}: the cache {job.cache_root} cannot be written: {outcome.reason}; finished clips are kept")
    return {"status": outcome.status, "reason": outcome.reason}


def load_decoded(cache: Cache, clip: str, key: str, job: Job | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """(frames (T*F, H, W, 3) uint8, waveform (L,) float32, sample rate in Hz) of a clip with a good verdict.

    An entry that was evicted or damaged since ``decode`` ran is decoded again through ``job``.

    Raises:
        PipelineError: the clip cannot be decoded any more; names it.
    """
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
