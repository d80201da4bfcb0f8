"""What a data set is to the pipeline: annotation rows, the file of each, and every defect found on the way.

The unit is the annotation row, not the clip: AVE has 4,143 rows over 4,097 videos. A clip that several rows name is decoded and encoded
once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from pipeline.cache import file_sha256
from pipeline.errors import InputProblems
from pipeline.registry import Registry
from pipeline.settings import Settings

Modality = Literal["av", "audio", "visual"]
Split = Literal["train", "train_negative", "val", "test", "none"]  # train_negative: clips without an event for weak supervision alone
MEDIA_SUFFIXES = frozenset([".mp4", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".mpeg", ".flv", ".m4v", ".ts", ".3gp", ".ogv", ".wmv"])


class DatasetSettings(Settings):
    """The block ``dataset`` of params.yaml. ``index`` depends on both paths."""

    kind: str = Field(description="a registered data set: ave, folder")
    clips: Path = Field(description="directory of the video files")
    annotations: Path = Field(description="directory (ave) or CSV file (folder) of labels; without labels, the clips directory")
    segments: int = Field(ge=1, le=3600, description="T, segments of a clip")
    segment_seconds: float = Field(gt=0, le=60, description="length of a segment in seconds")


@dataclass(frozen=True)
class Event:
    """One labelled span of a clip, [onset, offset) in seconds from the start of the clip's window."""

    modality: Modality
    label: str
    onset: float
    offset: float


@dataclass(frozen=True)
class Row:
    """One annotation row. ``file`` is None where no file of that id was found."""

    clip: str
    split: Split
    file: str | None
    events: tuple[Event, ...] = ()
    start: float = 0.0  # of the window in the file, seconds


@dataclass(frozen=True)
class Index:
    """All rows in annotation order, the class names in label order, and the defects that do not stop the run."""

    rows: list[Row]
    classes: list[str]
    health: list[str] = field(default_factory=list)


DATASETS: Registry = Registry("dataset kind")


def build_index(settings: DatasetSettings) -> Index:
    """Read annotations and find files.

    Raises:
        UnknownName: no such kind.
        InputProblems: every malformed line of the annotations at once, with file and line.
    """
    reader = DATASETS.get(settings.kind)
    if not settings.clips.is_dir():
        raise InputProblems("dataset.clips", [f"{settings.clips} is not a directory; put the clips there or correct the path"])
    return reader(settings)


def find_files(clips: Path, ids: Iterable[str]) -> dict[str, str | None]:
    """id -> path of ``<id>.<media suffix>`` directly in ``clips``, or None; links that lead out of ``clips`` are not followed."""
    root = clips.resolve()
    found: dict[str, str] = {}
    for path in sorted(clips.iterdir()):
        if path.suffix.lower() in MEDIA_SUFFIXES and path.resolve().is_relative_to(root):
            found.setdefault(path.stem, path.as_posix())
    return {clip: found.get(clip) for clip in ids}


def unsafe_id(clip: str) -> str | None:
    """Why an id from an annotation file must not become part of a path; None for a good one."""
    if not clip or clip in {".", ".."} or any(character in clip for character in "/\\\0"):
        return f"the id {clip!r} is empty or holds a path separator"
    return None


EVENT_TYPE = pa.struct([("modality", pa.string()), ("label", pa.string()), ("onset", pa.float64()), ("offset", pa.float64())])
SCHEMA = pa.schema([
    ("row", pa.int32()), ("clip", pa.string()), ("split", pa.string()), ("file", pa.string()), ("start", pa.float64()),
    ("bytes", pa.int64()), ("sha256", pa.string()), ("events", pa.list_(EVENT_TYPE)),
])  # fmt: skip


def write_index(index: Index, directory: Path) -> None:
    """Write ``index.parquet`` (one row per annotation row, with size and sha256 of its file), ``classes.json`` and ``health.json``."""
    files = sorted({row.file for row in index.rows if row.file})
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        hashes = dict(zip(files, pool.map(_readable_sha256, files), strict=True))
    records = [
        {
            "row": number, "clip": row.clip, "split": row.split, "file": row.file, "start": row.start,
            "bytes": Path(row.file).stat().st_size if row.file and hashes[row.file] else None,
            "sha256": hashes[row.file] if row.file else None, "events": [asdict(event) for event in row.events],
        }
        for number, row in enumerate(index.rows)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(records, SCHEMA), directory / "index.parquet")
    (directory / "classes.json").write_text(json.dumps(index.classes, indent=1, ensure_ascii=False) + "\n")
    (directory / "health.json").write_text(json.dumps(index.health, indent=1, ensure_ascii=False) + "\n")


def _readable_sha256(path: str) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def read_index(directory: Path) -> tuple[pd.DataFrame, list[str]]:
    """(rows, class names) as written by :func:`write_index`."""
    rows = pq.read_table(directory / "index.parquet").to_pandas()
    return rows, json.loads((directory / "classes.json").read_text())


def count_lines(title: str, entries: Sequence[str], limit: int = 20) -> list[str]:
    """One health line for many defects of a kind: the count and the first few."""
    if not entries:
        return []
    more = f" and {len(entries) - limit} more" if len(entries) > limit else ""
    return [f"{title}: {len(entries)} ({', '.join(entries[:limit])}{more})"]
