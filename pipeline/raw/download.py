"""Download the clips of a data set by their ids, with pauses, resuming where an earlier run stopped.

``downloads.parquet`` in the target directory has a line for every clip: clip, video, start, end, status, reason, file, bytes.
    ok            the file is there, whole
    gone, private, geo-blocked    YouTube's answer; not asked again without ``retry``
    failed        anything else, with the reason; the next run tries again
    pending       not tried yet
A video that cannot be downloaded is a line in this table, never an error: the DAG uses the clips that are there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from tqdm import tqdm

from pipeline.datasets.files import Matches, match_files
from pipeline.errors import PipelineError
from pipeline.publish import replacing
from pipeline.raw.wanted import Wanted
from pipeline.raw.youtube import FetchError
from pipeline.settings import Settings

STATUSES = ("ok", "gone", "private", "geo-blocked", "failed", "pending")
TABLE = "downloads.parquet"
WORK = ".downloading"
MOST_BLOCKED = 3  # in a row, after which the run ends: more requests would only prolong the block
SCHEMA = pa.schema([
    ("clip", pa.string()), ("video", pa.string()), ("start", pa.float64()), ("end", pa.float64()),
    ("status", pa.string()), ("reason", pa.string()), ("file", pa.string()), ("bytes", pa.int64()),
])  # fmt: skip

Fetcher = Callable[[Wanted, Path], Path]


class DownloadSettings(Settings):
    """Pace and extent of one run."""

    sleep: float = Field(5.0, ge=0, description="least seconds between two videos; up to twice that, at random")
    limit: int | None = Field(None, ge=1, le=10**9, description="most videos asked for in this run")
    retry: bool = Field(False, description="ask again for videos that were gone, private or geo-blocked")


def download(
    wanted: list[Wanted],
    into: Path,
    settings: DownloadSettings,
    make_fetcher: Callable[[], Fetcher],
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Fetch the clips that ``into`` lacks, recording each video as it is finished, and return a summary.

    Args:
        make_fetcher: called only if there is something to fetch.

    Raises:
        PipelineError: nothing can be fetched at all (yt-dlp is missing), the disk is full, or ``downloads.parquet`` is of something else.
    """
    if into.exists() and not into.is_dir():
        raise PipelineError(f"{into} is not a directory")
    into.mkdir(parents=True, exist_ok=True)
    present = match_files(into, [each.clip for each in wanted])
    before = _read_table(into / TABLE)
    records = {each.clip: _record(each, into, before.get(each.clip), present) for each in wanted}
    asked = {"pending", "failed"} | ({"gone", "private", "geo-blocked"} if settings.retry else set())
    hopeless = {each.clip for each in wanted if each.problem} | set(present.ambiguous)
    todo = [each for each in wanted if each.clip not in hopeless and records[each.clip]["status"] in asked][: settings.limit]
    fetch = make_fetcher() if todo else None
    _write_table(into, records)
    stopped = _fetch_all(todo, into, settings, records, fetch, sleep) if fetch else ""
    _remove_empty(into / WORK)
    return _summary(into, records, stopped)


def _remove_empty(directory: Path) -> None:
    """Remove ``directory`` unless it holds a partial video, which the next run resumes."""
    with contextlib.suppress(OSError):
        directory.rmdir()


def _fetch_all(
    todo: list[Wanted],
    into: Path,
    settings: DownloadSettings,
    records: dict[str, dict[str, Any]],
    fetch: Fetcher,
    sleep: Callable[[float], None],
) -> str:
    """Fetch the clips one by one; returns why the run stopped early, or an empty string."""
    blocked = 0
    for number, each in enumerate(tqdm(todo, desc="download", unit="video", disable=None)):
        if number:
            sleep(random.uniform(settings.sleep, 2 * settings.sleep))
        record = records[each.clip]
        try:
            record |= _fetch(each, into, fetch)
            blocked = 0
        except FetchError as error:
            is_blocked = error.outcome == "blocked"
            record |= {"status": "failed" if is_blocked else error.outcome, "reason": error.reason}
            blocked = blocked + 1 if is_blocked else 0
            _remove_empty(into / WORK / each.clip)
        _write_table(into, records)
        if blocked == MOST_BLOCKED:
            return f"YouTube does not answer this machine for now ({record['reason']}); wait some hours, raise --sleep, and run it again"
    return ""


def _fetch(each: Wanted, into: Path, fetch: Fetcher) -> dict[str, Any]:
    """Fetch one clip into a directory of its own, and rename only the finished file to its final name."""
    work = into / WORK / each.clip
    work.mkdir(parents=True, exist_ok=True)
    try:
        finished = fetch(each, work)
        target = into / f"{each.clip}{finished.suffix}"
        size = finished.stat().st_size
        if os.path.lexists(target):
            raise FetchError("failed", f"{target.name} is there already, and is not overwritten")
        os.replace(finished, target)  # yt-dlp's partial files stay where they are, for the next try to resume
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PipelineError(f"{into}: the disk is full; what is finished is kept: free some space, then run it again") from error
        raise FetchError("failed", f"{type(error).__name__}: {error}") from error
    shutil.rmtree(work)
    return {"status": "ok", "reason": "", "file": target.name, "bytes": size}


def _record(each: Wanted, into: Path, before: dict[str, Any] | None, present: Matches) -> dict[str, Any]:
    """A clip's line at the start of a run: an existing file counts, whatever the earlier line."""
    line = {"clip": each.clip, "video": each.video, "start": each.start, "end": each.end, "file": None, "bytes": None}
    if file := present.files[each.clip]:
        return {**line, "status": "ok", "reason": "", "file": os.path.relpath(file, into), "bytes": os.path.getsize(file)}
    if each.clip in present.ambiguous:
        return {**line, "status": "failed", "reason": f"several different files: {', '.join(present.ambiguous[each.clip])}"}
    if each.problem:
        return {**line, "status": "failed", "reason": each.problem}
    if before is None or before["status"] == "ok":
        return {**line, "status": "pending", "reason": ""}
    return {**line, "status": before["status"], "reason": before["reason"]}


def _read_table(path: Path) -> dict[str, dict[str, Any]]:
    """Lines by clip; empty where the table is missing or damaged: files are found again, only refusals are lost.

    Raises:
        PipelineError: it is a whole table of something else.
    """
    try:
        if path.is_file() and not set(SCHEMA.names) <= set(pq.read_schema(path).names):
            raise PipelineError(f"{path} is not a table that `download` wrote, and is not overwritten; move it, or name another directory")
        lines = pq.read_table(path, schema=SCHEMA).to_pylist()
    except (OSError, pa.ArrowException):
        return {}
    return {line["clip"]: line for line in lines if line["status"] in STATUSES}


def _write_table(into: Path, records: dict[str, dict[str, Any]]) -> None:
    with replacing(into / TABLE) as partial:
        pq.write_table(pa.Table.from_pylist(list(records.values()), SCHEMA), partial)


def _summary(into: Path, records: dict[str, dict[str, Any]], stopped: str) -> str:
    counts = Counter(record["status"] for record in records.values())
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    reasons = pd.Series([record["reason"] for record in records.values() if record["status"] == "failed"], dtype=object).value_counts()
    lines = [f"{len(records)} clips: {told}; a line for each in {into / TABLE}"]
    lines += [f"  failed {count} times: {reason}" for reason, count in reasons.head(5).items()]
    return "\n".join([*lines, *([stopped] if stopped else [])])
