"""Write the index of a data set: the annotation rows with what their files hold, the classes, the defects."""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from pipeline.cache import Cache, file_sha256
from pipeline.datasets.base import CLASSES, HEALTH, LISTED, DatasetSettings, Index, Row, Split, count_lines, published_path
from pipeline.datasets.hashes import Content, hash_files
from pipeline.media.material import content_sha256, parts_of
from pipeline.tables import write_table

EVENT_TYPE = pa.struct([("modality", pa.string()), ("label", pa.string()), ("onset", pa.float64()), ("offset", pa.float64())])
SCHEMA = pa.schema([
    ("row", pa.int32()), ("clip", pa.string()), ("split", pa.string()), ("file", pa.string()), ("start", pa.float64()),
    ("seconds", pa.float64()), ("bytes", pa.int64()), ("sha256", pa.string()), ("labels", pa.list_(pa.string())),
    ("events", pa.list_(EVENT_TYPE)), ("segment_rule", pa.string()),
])  # fmt: skip


def write_index(index: Index, directory: Path, settings: DatasetSettings | None = None, cache: Cache | None = None) -> list[str]:
    """Write ``index.parquet`` (the annotation rows, with size and sha256 of their files), ``classes.json`` and ``health.json``.

    Args:
        settings: its folders are left out of the written paths (:func:`published_path`), so moving them changes nothing here.
        cache: remembers the hashes of unchanged files; None hashes every file.

    Returns:
        The health lines, including those that follow from the files' bytes.
    """
    clips = settings.clips if settings else None
    contents = contents_of({row.file for row in index.rows if row.file}, settings.sounds if settings else None, cache, clips)
    records = [
        {
            "row": number, "clip": row.clip, "split": row.split, "file": published_path(row.file, clips), "start": row.start,
            "bytes": contents[row.file].size if row.file else None,
            "sha256": contents[row.file].sha256 if row.file else None, "seconds": row.seconds, "labels": list(row.clip_labels),
            "events": [asdict(event) for event in row.events], "segment_rule": index.segment_rule,
        }
        for number, row in enumerate(index.rows)
    ]  # fmt: skip
    health = [*index.health, *equal_bytes(index.rows, contents)]
    for folder in (settings.clips, settings.annotations) if settings else ():
        start = re.compile(rf"(?<![\w./-]){re.escape(folder.as_posix())}/")
        health = [start.sub("", line) for line in health]
    for name, lines in ((CLASSES, index.classes), (HEALTH, health)):
        (directory / name).write_text(json.dumps(lines, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside = {name: file_sha256(directory / name) for name in (CLASSES, HEALTH)}
    write_table(pa.Table.from_pylist(records, SCHEMA), directory / "index.parquet", beside)
    return health


def contents_of(files: Iterable[str], sounds: Path | None, cache: Cache | None, clips: Path | None) -> dict[str, Content]:
    """Size and hash of every clip's content: of its film, or of its pictures and its sound file together."""
    parts = {file: parts_of(file, sounds) for file in files}
    of_part = hash_files(sorted({part for each in parts.values() for part in each}), cache, clips)

    def sha256(part: str) -> str:
        if (digest := of_part[part].sha256) is None:
            raise OSError(f"{part} cannot be read")
        return digest

    contents = {}
    for file, each in parts.items():
        try:
            contents[file] = Content(sum(of_part[part].size or 0 for part in each), content_sha256(file, sounds, sha256))
        except OSError:
            contents[file] = Content(None, None)
    return contents


def equal_bytes(rows: Sequence[Row], contents: Mapping[str, Content]) -> list[str]:
    """Health lines on clips in several splits that are the same window of the same bytes under different ids.

    Args:
        contents: of every file.
    """
    splits: dict[tuple[str, float], dict[Split, dict[str, None]]] = {}
    for row in rows:
        if row.file and row.split != "none" and (digest := contents[row.file].sha256):
            splits.setdefault((digest, row.start), {}).setdefault(row.split, {})[row.clip] = None
    found: dict[str, list[str]] = {}
    counts: dict[str, int] = defaultdict(int)
    for by_split in splits.values():
        for first, second in itertools.combinations(by_split, 2):
            title = f"clips of {first} and {second} with the same bytes under two ids"
            ones, others = by_split[first], by_split[second]
            if count := len(ones) * len(others) - len(ones.keys() & others.keys()):  # a million pairs are counted, not listed
                counts[title] += count
                pairs = (f"{one} = {other}" for one in ones for other in others if one != other)
                found.setdefault(title, []).extend(itertools.islice(pairs, LISTED))
    return [line for title, pairs in found.items() for line in count_lines(title, pairs, count=counts[title])]
