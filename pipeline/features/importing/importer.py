"""Import of published features: files -> shards, index and spec of a feature store, in one pass and little memory.

The headers of all files are checked first, the numbers as they are copied (reading 8 GB twice would cost more than it saves). Nothing is
published unless all numbers are finite. A shard is the unit of progress: it appears by rename, so a killed run goes on after its last
whole shard.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.cache import fingerprint
from pipeline.closure import digests
from pipeline.datasets import DatasetSettings
from pipeline.datasets.arrays import MADE_BY, made_by
from pipeline.datasets.base import count_lines
from pipeline.errors import InputProblems
from pipeline.features.importing.fitting import segments_of
from pipeline.features.importing.settings import ImportSet
from pipeline.features.importing.sources import ClipFiles, Reader, RowArray, clip_path
from pipeline.features.lanes import load_ahead
from pipeline.features.store import SHARD_BYTES, begin_shard, entries_per_shard, entry_shapes, shard_name, write_documents, write_entries
from pipeline.progress import Progress
from pipeline.publish import replacing
from pipeline.tensors import discard
from pipeline.time_grid import TimeGrid

IMPORT_VERSION = 1  # raised by hand whenever a code change moves the numbers
BLOCK_BYTES = 8 * 2**20
SHOWN = 50  # faulty entries named in one error


@dataclass
class Checked:
    """Findings about one shard: a hash per entry, all-zero segments as (entry, segment), and (entry, reason) if not finite."""

    keys: list[str] = field(default_factory=list)
    zero: list[tuple[int, int]] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)


class Import:
    """One entry of ``imports`` for the rows of an index.

    Args:
        index: as :func:`pipeline.datasets.read_index` gives it.
        shard_bytes: size of the widest stream's shards.
    """

    def __init__(self, settings: ImportSet, dataset: DatasetSettings, index: pd.DataFrame, shard_bytes: int = SHARD_BYTES) -> None:
        self.settings = settings
        self.segments, self.segment_seconds = settings.segments or dataset.segments, settings.segment_seconds or dataset.segment_seconds
        self.missing: list[str] = []
        self.entries = self._clips(index) if settings.per_clip else self._rows(index)
        self.spec = self._spec()
        self.per_shard = entries_per_shard(self.spec, shard_bytes)
        self.readers = {name: self._reader(name) for name in settings.sources}

    def _rows(self, index: pd.DataFrame) -> pd.DataFrame:
        """Annotation rows in order, then the negatives if their files are named."""
        return index if self.settings.visual.negatives else index[index["split"] != "negative"]

    def _clips(self, index: pd.DataFrame) -> pd.DataFrame:
        """Clips with all the files they need, in the order of their first row; the others go to :attr:`missing`."""
        clips = index[index["split"] != "negative"].drop_duplicates("clip")
        clips = clips.assign(trained=clips["clip"].isin(index.loc[index["split"] == "train", "clip"]))
        sources, directory = self.settings.sources.values(), self.settings.directory
        has = [
            all(os.path.lexists(clip_path(source, directory, clip)) for source in sources if trained or not source.training_only)
            for clip, trained in zip(clips["clip"], clips["trained"], strict=True)
        ]
        self.missing = list(clips["clip"][~np.array(has, dtype=bool)])
        return clips[has]

    def _reader(self, name: str) -> Reader:
        source, directory = self.settings.sources[name], self.settings.directory
        if source.per_clip:
            return ClipFiles(source, directory, self.entries, self.segments, self.segment_seconds)
        negatives = int((self.entries["split"] == "negative").sum())
        return RowArray(source, directory, len(self.entries) - negatives, negatives, self.segments)

    def _spec(self) -> dict[str, Any]:
        whole = [source for source in self.settings.sources.values() if not source.per_clip]
        files = [self.settings.directory / name for source in whole for name in (source.file, source.negatives) if name]
        made = sorted({command for command in map(made_by, [self.settings.directory, *files]) if command})
        return {
            "segments": self.segments,
            "segment_seconds": self.segment_seconds,
            **self._grid().facts(self.segment_seconds),
            "dtype": self.settings.dtype,
            "shapes": {name: list(source.shape) for name, source in self.settings.sources.items()},
            "encoders": {},  # unknown: published files do not record their encoder
            "published": {name: source.model_dump(mode="json") for name, source in self.settings.sources.items()},
            **({MADE_BY: ", ".join(made)} if made else {}),
        }

    def _grid(self) -> TimeGrid:
        plain, first = TimeGrid.of_segments(self.segment_seconds), self.settings.first_seconds
        return plain if first is None else replace(plain, first_seconds=first)

    def check(self) -> None:
        """Check everything that does not need the numbers.

        Raises:
            InputProblems: missing, unreadable or truncated files, wrong shapes or types, links out of the directory; all at once.
        """
        problems = []
        if len(self.missing) > self.settings.max_missing_fraction * (len(self.missing) + len(self.entries)):
            line = count_lines("clips without a file in every stream", self.missing)[0]
            problems.append(f"{line}; more than max_missing_fraction = {self.settings.max_missing_fraction:g} allows")
        for reader in self.readers.values():
            problems += reader.problems()
        if problems:
            raise InputProblems(str(self.settings.directory), problems)

    def fingerprint(self) -> str:
        """Identify the import by code, settings and rows, and by size and time of every file to be read."""
        facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for reader in self.readers.values() for path in reader.paths]
        entries = self.entries[["row", "clip", "seconds"]].to_csv()
        code = digests([Path(__file__)])
        return fingerprint(IMPORT_VERSION, code, self.settings.model_dump(mode="json"), self.spec, self.per_shard, entries, facts)

    def run(self, directory: Path) -> str:
        """Write the store; return a one-line summary, followed by the oddities found.

        Raises:
            InputProblems: entries with NaN, with infinity, or with numbers too large for the stored dtype.
        """
        checked = {name: self._stream(name, directory) for name in self.readers}
        bad = [f"{self.readers[name].name(entry)}: {reason}" for name, found in checked.items() for entry, reason in found.bad]
        if bad:
            more = [f"and {len(bad) - SHOWN} more entries"] if len(bad) > SHOWN else []
            raise InputProblems(str(self.settings.directory), bad[:SHOWN] + more)
        write_documents(directory, self._records(checked), self.spec, with_rows=not self.settings.per_clip)
        for path in directory.glob("*.checked.json"):
            path.unlink()
        summary = f"{len(self.entries)} entries of {', '.join(self.readers)} stored as {self.settings.dtype}"
        return "\n".join([summary, *self.oddities(checked)])

    def _stream(self, name: str, directory: Path) -> Checked:
        """Write all shards of one stream in order, keeping those already there."""
        whole, count = Checked(), len(self.entries)
        ranges = [(start, min(start + self.per_shard, count)) for start in range(0, count, self.per_shard)]
        with Progress(total=count, desc=f"import {name}", unit="clip") as bar:
            for number, (start, stop) in enumerate(ranges):
                path = directory / shard_name(name, number)
                notes = path.with_suffix(".checked.json")
                checked = _whole_shard(path, notes)
                if checked is None:
                    with replacing(path) as partial:
                        checked = self._shard(name, start, stop, partial, bar)
                        notes.write_text(json.dumps(vars(checked)), encoding="utf-8")
                else:
                    bar.update(stop - start)
                whole.keys += checked.keys
                whole.zero += checked.zero
                whole.bad += checked.bad
        self.readers[name].close()
        return whole

    def _shard(self, name: str, start: int, stop: int, path: Path, bar: Progress) -> Checked:
        """Write entries ``start`` to ``stop`` of a stream into the .npy file ``path``."""
        shape = entry_shapes(self.spec)[name]
        entry_bytes = int(np.prod(shape)) * np.dtype(self.settings.dtype).itemsize
        step = max(1, BLOCK_BYTES // entry_bytes)
        blocks = [(low, min(low + step, stop)) for low in range(start, stop, step)]
        result = Checked()
        with begin_shard(path, (stop - start, *shape), self.settings.dtype) as stream:
            for (low, high), (values, found) in load_ahead(lambda block: self._block(name, *block), blocks):
                write_entries(stream, values)
                result.keys += found.keys
                result.zero += found.zero
                result.bad += found.bad
                bar.update(high - low)
        return result

    def _block(self, name: str, start: int, stop: int) -> tuple[np.ndarray, Checked]:
        """Read entries in the stored dtype, and check them. Runs in a loading thread."""
        published = self.readers[name].read(start, stop)
        if self.settings.by_rows:
            published[np.arange(self.segments) >= self.own[start:stop, None]] = 0
        with np.errstate(over="ignore"):  # an overflow is found and reported below
            values = np.ascontiguousarray(published, dtype=self.settings.dtype)
        flat = values.reshape(stop - start, self.segments, -1)
        low, high = flat.min(axis=2), flat.max(axis=2)  # both are NaN if any number is
        checked = Checked(keys=[hashlib.sha256(entry).hexdigest() for entry in values])
        for entry, segment in np.argwhere((low == 0) & (high == 0)):
            checked.zero.append((start + int(entry), int(segment)))
        for entry in np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)).all(axis=1)):
            checked.bad.append((start + int(entry), _what_is_not_finite(published[entry], values[entry], self.settings.dtype)))
        return values, checked

    def _records(self, checked: dict[str, Checked]) -> Iterator[dict[str, Any]]:
        for position, (row, clip, valid) in enumerate(zip(self.entries["row"], self.entries["clip"], self._valid(), strict=True)):
            shard, offset = divmod(position, self.per_shard)
            facts = {"clip": clip, "row": int(row), "shard": shard, "offset": offset, "status": "ok"}
            facts |= dict.fromkeys(("valid", "visual_valid", "audio_valid"), valid)
            yield facts | {f"{name}_key": found.keys[position] for name, found in checked.items()}

    @cached_property
    def own(self) -> NDArray[np.int64]:
        """(N,): how many of the T segments lie inside each clip; with ``time: rows``, by the shortest stream."""
        if self.settings.by_rows:
            return np.minimum(list(self.lengths.values()), self.segments).min(axis=0)
        return np.array([segments_of(seconds, self.segments, self.segment_seconds) for seconds in self.entries["seconds"]], np.int64)

    @cached_property
    def lengths(self) -> dict[str, list[int]]:
        """Rows of each entry by stream, for files of one clip each."""
        return {name: reader.lengths() for name, reader in self.readers.items() if isinstance(reader, ClipFiles)}

    def _valid(self) -> list[list[bool]]:
        """(N, T): which segments lie inside each clip."""
        return [[segment < count for segment in range(self.segments)] for count in self.own.tolist()]

    def oddities(self, checked: dict[str, Checked]) -> list[str]:
        """Describe what is no error but worth a look: missing clips, all-zero segments, clips whose rows differ."""
        clips, valid = list(self.entries["clip"]), self._valid()
        lines = count_lines("clips without a file in every stream, left out", self.missing)
        if self.settings.by_rows:
            lengths = [self.lengths[name] for name, source in self.settings.sources.items() if source.time == "rows"]
            of_clips = list(zip(clips, zip(*lengths, strict=True), strict=True))
            lines += count_lines("clips cut to the shortest of their streams", [clip for clip, rows in of_clips if len(set(rows)) > 1])
            lines += count_lines(f"clips cut off at {self.segments} rows", [clip for clip, rows in of_clips if min(rows) > self.segments])
        for name, found in checked.items():
            inside = sorted({clips[entry] for entry, segment in found.zero if valid[entry][segment]})
            lines += count_lines(f"clips with all-zero {name} segments", inside)
            keys = pd.DataFrame({"clip": clips, "key": found.keys}).groupby("clip")["key"].nunique()
            lines += count_lines(f"clips whose rows have different {name} features", list(keys.index[keys > 1]))
        return lines


def _advice(published: np.ndarray, dtype: str) -> str:
    largest = np.abs(published).max()
    if dtype == "float16" and largest <= np.finfo(np.float32).max:
        return "set dtype: float32"
    return "no dtype of the store can hold it: check how the file was made, or scale its numbers"


def _whole_shard(path: Path, notes: Path) -> Checked | None:
    """Read an interrupted run's notes on a finished shard; None without one, or if it is damaged (then removed)."""
    if not path.is_file():
        return None
    try:
        checked = Checked(**json.loads(notes.read_text(encoding="utf-8")))
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        if [hashlib.sha256(np.ascontiguousarray(entry).data).hexdigest() for entry in values] == checked.keys:
            return checked
    except (ValueError, TypeError, OSError, EOFError):
        pass
    discard(path, f"{path}, left by an interrupted run, is damaged", "its entries are imported again")
    return None


def _what_is_not_finite(published: np.ndarray, stored: np.ndarray, dtype: str) -> str:
    """Describe the fault of one entry, (T, *shape) as read and as stored."""
    if np.isfinite(published).all():
        return f"the largest magnitude {np.abs(published).max():.4g} is too large for {dtype}; {_advice(published, dtype)}"
    flat = ~np.isfinite(published.reshape(len(published), -1))
    places = ", ".join(map(str, np.flatnonzero(flat.any(axis=1))))
    return f"{np.count_nonzero(flat)} values are NaN or infinite (segments {places})"
