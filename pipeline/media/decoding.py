"""Decode all clips of an index into the per-clip cache, with a verdict for each.

The key of an entry holds everything that its numbers depend on: the file's bytes, the window, and the media settings that move numbers.
Two ids with the same bytes share one entry, and an interrupted or repeated stage does not decode a clip again.

Every entry lies under its own key: a file is hashed again once it is decoded, and a job whose key differs from the manifest's (`media` was
changed, and `decode` did not run) is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.cache import Cache, Deliveries, Store
from pipeline.errors import PipelineError, naming_clips
from pipeline.media.clip import BAD
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.handed import Handed
from pipeline.media.job import CHANGED, KIND, VERDICTS, Job, NotStored, decode_and_hand_over, decode_in_memory, decode_into_cache, kind_of
from pipeline.media.settings import MediaSettings
from pipeline.progress import Progress

Arrays = dict[str, np.ndarray]
DecodeEach = Callable[[Iterable[Job], MediaSettings], Iterator[tuple[Job, dict[str, Any]]]]
NAMED = 10  # clips listed in one message at most
# Order and types are fixed, so that the manifest's bytes do not depend on what was in the cache.
SCHEMA = pa.schema([
    ("clip", pa.string()), ("file", pa.string()), ("key", pa.string()), ("status", pa.string()), ("reason", pa.string()),
    ("seconds", pa.float64()), ("video_coverage", pa.float64()), ("audio_coverage", pa.float64()),
    ("visual_valid", pa.list_(pa.bool_())), ("audio_valid", pa.list_(pa.bool_())), ("decoder", pa.string()),
    ("container", pa.string()), ("duration", pa.float64()), ("width", pa.int64()), ("height", pa.int64()), ("fps", pa.float64()),
    ("rotation", pa.int64()), ("video_codec", pa.string()), ("audio_codec", pa.string()), ("sample_rate", pa.int64()),
    ("channels", pa.int64()), ("video_track", pa.string()), ("audio_track", pa.string()),
])  # fmt: skip


def make_jobs(
    index: pd.DataFrame, segments: int, segment_seconds: float, settings: MediaSettings, cache: Cache
) -> tuple[dict[str, Job], list[str]]:
    """Make one job per clip, however many annotation rows it has.

    Returns:
        The jobs by clip id, and the ids of the clips without a readable file.
    """
    clips = index.drop_duplicates("clip")
    jobs = {
        row.clip: Job(row.clip, row.file, row.sha256, row.start, segments, segment_seconds, settings, cache.root)
        for row in clips[clips["sha256"].notna()].itertuples()
    }
    return jobs, sorted(set(clips["clip"]) - set(jobs))


def decode_clips(
    jobs: list[Job],
    missing: list[str],
    settings: MediaSettings,
    known: Callable[[Job, dict[str, Any]], None] | None = None,
    decode: DecodeEach | None = None,
) -> pd.DataFrame:
    """Decode the clips whose verdict, or with ``keep: frames`` whose frames, the cache lacks.

    Args:
        jobs: one per clip that has a file.
        missing: ids of clips without a file.
        known: called with each job and its verdict as soon as there is one, before the others are decoded; once for jobs of one key that
            are decoded now.
        decode: as :func:`decode_each`, which it is by default: decodes each job once, wherever it does.

    Returns:
        A table of all clips, sorted by id: clip, file, key and the verdict's columns.

    Raises:
        PipelineError: the cache cannot be read or written, or files have changed since the index.
    """
    verdicts = stored_verdicts(jobs)
    todo = list({job.key: job for job in jobs if job.clip not in verdicts}.values())
    print(f"decode: {len(todo)} of {len(jobs) + len(missing)} clips decoded now, the others are in the cache or missing", flush=True)
    done = Progress((decode or decode_each)(todo, settings), total=len(todo), desc="decode", unit="clip")
    by_key = {}
    for job, verdict in chain(((job, verdicts[job.clip]) for job in jobs if job.clip in verdicts), done):
        by_key[job.key] = verdict
        if known:
            known(job, verdict)
    _check_unchanged((job.clip, by_key[job.key]) for job in todo)
    rows = [{"clip": job.clip, "file": job.file, "key": job.key, **(verdicts.get(job.clip) or by_key[job.key])} for job in jobs]
    rows += [{"clip": clip, "file": None, "key": None, "status": "missing", "reason": "no file of this id"} for clip in missing]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["clip"]), SCHEMA).to_pandas()


def decode_each(jobs: Iterable[Job], settings: MediaSettings) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Decode the jobs into their caches, and yield (job, verdict) of each as it is done.

    At most ``settings.workers`` jobs run ahead of the consumer.

    Raises:
        PipelineError: the cache cannot be written, or its store does not take an entry.
    """
    with Deliveries() as deliveries:
        for job, outcome in _guarded(decode_into_cache, jobs, settings):
            verdict = _verdict(job, outcome)
            deliveries.add(Cache(job.cache_root), kind_of(job), job.key)
            yield job, verdict


def decode_in_hand(
    jobs: Iterable[Job], settings: MediaSettings, store: bool = False
) -> Iterator[tuple[Job, dict[str, Any], Arrays | None]]:
    """Like :func:`decode_each`, with the arrays of each good clip in memory that it shares with its child process.

    Arrays: ``frames`` (T*F, H, W, 3) uint8 and ``waveform`` (L,) float32; None for a bad clip.

    Args:
        store: whether the clips' entries are written too, as ``media.keep`` says; with ``keep: frames`` they always are.
    """
    store = store or settings.keep == "frames"
    with Deliveries() as deliveries:
        for job, outcome in _guarded(decode_and_hand_over if store else decode_in_memory, jobs, settings):
            arrays = dict(outcome.arrays) if isinstance(outcome, Handed) else None
            verdict = _verdict(job, outcome.content if isinstance(outcome, Handed) else outcome)
            if store:
                deliveries.add(Cache(job.cache_root), kind_of(job), job.key)
            yield job, verdict, arrays


def _guarded(function: Callable[[Job], Any], jobs: Iterable[Job], settings: MediaSettings) -> Iterator[tuple[Job, Any]]:
    return run_guarded(function, jobs, workers=settings.workers, timeout_seconds=settings.timeout_seconds, memory_mb=settings.memory_mb)


def _check_unchanged(verdicts: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Check the verdicts of clips that were decoded now, by id.

    Raises:
        PipelineError: files have changed since the index.
    """
    changed = [f"{clip}: {verdict['reason']}" for clip, verdict in verdicts if verdict["status"] == CHANGED]
    if changed:
        raise PipelineError(
            f"{len(changed)} files have changed since `index` read them; run `dvc repro decode` (or: python -m stages.index, then"
            f" python -m stages.decode):{_listed(changed)}"
        )


def stored_verdicts(jobs: Iterable[Job]) -> dict[str, dict[str, Any]]:
    """Read the stored verdicts, by clip; without those of clips that must be decoded, perhaps only to keep their frames.

    Raises:
        CacheError: a cache cannot be read, or its store takes no entries and some are to be made.
    """
    found: dict[str, dict[str, Any]] = {}
    by_place: dict[tuple[Path | Store, str], list[Job]] = {}
    for job in jobs:
        by_place.setdefault((job.cache_root, job.settings.keep), []).append(job)
    for (root, keep), group in by_place.items():
        cache, lacking = Cache(root), group
        for kind in (VERDICTS, KIND) if keep == "verdicts" else (KIND, VERDICTS):
            facts = cache.facts_of(kind, (job.key for job in lacking))
            if kind == VERDICTS and keep == "frames":
                facts = {key: verdict for key, verdict in facts.items() if verdict["status"] in BAD}
            found |= {job.clip: facts[job.key] for job in lacking if job.key in facts}
            lacking = [job for job in lacking if job.key not in facts]
        if lacking:
            cache.check()
    return found


def _verdict(job: Job, outcome: dict[str, Any] | NotStored | Failure) -> dict[str, Any]:
    """Turn a job's outcome into a verdict.

    The verdict of a clip that brought its child process down is not cached, so a later run of the stage tries again.

    Raises:
        PipelineError: the clip's cache entry could not be written.
    """
    if isinstance(outcome, NotStored):
        raise PipelineError(f"clip {job.clip!r}: {outcome.reason}")
    return outcome if isinstance(outcome, dict) else {"status": outcome.status, "reason": outcome.reason}


def check_manifest(manifest: pd.DataFrame, jobs: Mapping[str, Job]) -> None:
    """Check that the manifest's keys are those of today's jobs: `decode` used today's settings and index.

    Args:
        manifest: as :func:`decode_clips` returns it.
        jobs: by clip id, made from today's settings and index.

    Raises:
        PipelineError: clips were decoded under another key, or not at all; names the first ones and the stage to run.
    """
    keys = dict(zip(manifest["clip"], manifest["key"], strict=True))
    stale = [clip for clip, key in keys.items() if (jobs[clip].key if clip in jobs else None) != (None if pd.isna(key) else key)]
    stale += [clip for clip in jobs if clip not in keys]
    if stale:
        raise PipelineError(
            f"{len(stale)} of {len(keys)} clips were not decoded with today's `media`, `dataset` and data/index;"
            f" run `dvc repro decode` (or: python -m stages.decode):{_listed(sorted(stale))}"
        )


def _listed(lines: list[str]) -> str:
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return "".join(f"\n  - {line}" for line in [*lines[:NAMED], *more])


def load_decoded(cache: Cache, clip: str, key: str, job: Job | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """(frames (T*F, H, W, 3) uint8, waveform (L,) float32, sample rate in Hz) of a clip with a good verdict.

    Frames that were never kept, or are lost or damaged since ``decode`` ran, are decoded again through ``job``.

    Raises:
        PipelineError: the clip no longer decodes, or ``job`` has another key; names the clip.
    """
    _check_key(clip, key, job)
    with naming_clips([clip], "its decoded form"):
        entry, reason = cache.get(KIND, key), ""
        if entry is None and job is not None:
            [(_, verdict, arrays)] = decode_in_hand([job], job.settings)
            _check_unchanged([(clip, verdict)])
            entry, reason = (arrays or {}, verdict), f": {verdict['status']}: {verdict['reason']}"
    if entry is None or "frames" not in entry[0]:
        raise PipelineError(f"clip {clip!r}: its frames are not in the cache {cache.root}, and its file no longer decodes{reason}")
    arrays, facts = entry
    return arrays["frames"], arrays["waveform"], int(facts["sample_rate"])


def load_sound(cache: Cache, clip: str, key: str, job: Job | None = None) -> tuple[np.ndarray, int]:
    """(waveform (L,) float32, sample rate in Hz) of a clip with a good verdict; see :func:`load_decoded`."""
    _check_key(clip, key, job)
    with naming_clips([clip], "its sound"):
        entry = cache.get(VERDICTS, key)
    if entry is not None and "waveform" in entry[0]:
        return entry[0]["waveform"], int(entry[1]["sample_rate"])
    _, waveform, rate = load_decoded(cache, clip, key, job)
    return waveform, rate


def _check_key(clip: str, key: str, job: Job | None) -> None:
    if job is not None and job.key != key:
        raise PipelineError(
            f"clip {clip!r} was not decoded with today's `media`, `dataset` and data/index; run `dvc repro decode`"
            " (or: python -m stages.decode)"
        )


def summary(manifest: pd.DataFrame) -> str:
    """Count the clips of each status, in one line."""
    counts = Counter(manifest["status"])
    return f"{len(manifest)} clips: " + ", ".join(f"{count} {status}" for status, count in counts.most_common())


def check_bad_share(manifest: pd.DataFrame, limit: float) -> None:
    """Fail if too many clips are bad.

    Raises:
        PipelineError: more than the share ``limit`` is bad; lists the counts by status and the first ten clips by status and id.
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
