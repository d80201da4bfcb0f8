"""Find the films of which only the beginning is used, because they are longer than their window."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pipeline.media.clip import GOOD
from pipeline.media.job import Job

NAMED = 10  # films listed in the line at most


def with_unread(manifest: pd.DataFrame, jobs: Mapping[str, Job]) -> pd.DataFrame:
    """Add ``unread`` to a manifest of `decode`: the seconds of a film after its last window.

    ``reason`` says so too. It is NaN for bad clips, for all windows but a film's last, and for a rest shorter than half a segment.

    Args:
        jobs: by clip id.
    """
    ends: dict[str, float] = {}
    for each in jobs.values():
        ends[each.file] = max(ends.get(each.file, 0.0), each.start + each.segments * each.segment_seconds)
    unread, reasons = [], []
    for row in manifest.itertuples():
        job, reason, rest = jobs.get(row.clip), row.reason, float("nan")
        if job is not None and row.status in GOOD and job.start + job.segments * job.segment_seconds == ends[job.file]:
            after = row.duration - ends[job.file]  # NaN where the container states no length
            if after >= job.segment_seconds / 2:
                remark = f"film of {round(row.duration, 1):g} s: only the first {ends[job.file]:g} s are used"
                reason, rest = f"{reason}; {remark}" if reason else remark, after
        unread.append(rest)
        reasons.append(reason)
    return manifest.assign(reason=reasons, unread=pd.Series(unread, manifest.index, "float64"))


def unread_films(manifest: pd.DataFrame) -> list[str]:
    """One line on the films of which only a part is used, and how much; none without such films."""
    films = manifest[manifest["unread"].notna()]
    if films.empty:
        return []
    listed = [f"{row.clip}: {row.duration - row.unread:g} of {round(row.duration, 1):g} s" for row in films.head(NAMED).itertuples()]
    more = f" and {len(films) - NAMED} more" if len(films) > NAMED else ""
    advice = "for films of your own (kind: folder), dataset.windows: all uses them whole"
    return [f"films longer than what is used of them: {len(films)} ({', '.join(listed)}{more}); {advice}"]
