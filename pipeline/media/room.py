"""Estimate what decoding will store from a look at a few files, and choose what ``media.keep: auto`` keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.cache import Cache
from pipeline.disk import size_in_words
from pipeline.disk_room import Writing, in_cache, room_of
from pipeline.media.clip import SILENT_RATE
from pipeline.media.job import KIND, VERDICTS, Job
from pipeline.media.survey import survey_each
from pipeline.media.video import scaled_size

LOOKED_AT = 12  # files, evenly spread
PART = 10  # `auto` keeps frames that take less than this part of what is free
ENTRY_BYTES = 4096  # of an entry beside its arrays, its directory and the disk's blocks


@dataclass(frozen=True)
class ClipBytes:
    """Bytes that the frames and the sound of one decoded clip take."""

    frames: float = 0.0
    sound: float = 0.0


def decoding_room(jobs: Mapping[str, Job], cache: Cache) -> tuple[dict[str, Job], list[Writing]]:
    """Estimate what `decode` will store of the clips that the cache lacks.

    Returns:
        The jobs, with ``auto`` made ``verdicts`` where the frames of all would take too much; and what will be written.
    """
    by_key = {job.key: job for job in jobs.values()}
    with_frames = cache.present(KIND, by_key)
    bare = [job for key, job in by_key.items() if key not in with_frames]
    known = cache.present(VERDICTS, (job.key for job in bare))
    keep = next(iter(jobs.values())).settings.keep if jobs else "auto"
    each = average(bare, cache) if len(known) < len(bare) or (bare and keep == "frames") else ClipBytes()
    if keep == "auto" and each.frames * len(bare) * PART >= room_of(cache):
        keep = "verdicts"
        jobs = {clip: replace(job, settings=job.settings.model_copy(update={"keep": keep})) for clip, job in jobs.items()}
    new = len(bare) if keep == "frames" else len(bare) - len(known)
    sound = new * (each.sound + ENTRY_BYTES) if new else 0.0
    if keep == "verdicts":
        what = f"sound of {new} clips, no frames: media.keep" if new else "new clips"
        return dict(jobs), in_cache(cache, what, sound)
    smaller = (f"media.keep: verdicts ({size_in_words(sound)})", "media.frames_per_second", "media.frame_size")
    what = f"frames and sound of {new} clips, {min(LOOKED_AT, len(bare))} looked at" if new else "new clips"
    return dict(jobs), in_cache(cache, what, new * each.frames + sound, smaller)


def average(jobs: Sequence[Job], cache: Cache) -> ClipBytes:
    """Average what the frames and the sound of clips take, from a few verdicts or a look at files."""
    chosen = [jobs[number * len(jobs) // LOOKED_AT] for number in range(LOOKED_AT)] if len(jobs) > LOOKED_AT else list(jobs)
    if not chosen:
        return ClipBytes()
    facts: dict[str, Mapping[str, Any]] = {**cache.facts_of(VERDICTS, (job.key for job in chosen))}
    unknown = [job for job in chosen if job.key not in facts]
    looked = survey_each({job.file for job in unknown}, chosen[0].settings)
    facts |= {job.key: looked[job.file].facts for job in unknown}
    sizes = [clip_bytes(job, facts[job.key]) for job in chosen]
    return ClipBytes(_mean(size.frames for size in sizes), _mean(size.sound for size in sizes))


def clip_bytes(job: Job, facts: Mapping[str, Any]) -> ClipBytes:
    """Bytes of a clip with these facts, see :class:`pipeline.media.clip.DecodedClip`; none without moving pictures."""
    if not facts.get("width") or not facts.get("height"):
        return ClipBytes()
    height, width = scaled_size((facts["height"], facts["width"]), job.settings.frame_size)
    frames = job.segments * job.settings.frames_per_segment(job.segment_seconds) * height * width * 3
    return ClipBytes(frames, job.segments * job.segment_seconds * (facts.get("sample_rate") or SILENT_RATE) * 4)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
