"""The feature store: .npy shards read entry by entry, a parquet index, one spec document.

``visual-000.npy`` holds (entries, T, *visual_shape), ``audio-000.npy`` (entries, T, *audio_shape), in the order of ``index.parquet``
(clip, shard, offset, status, valid: (T,) bool, visual_valid, audio_valid, and each modality's cache key, which identifies its content).
An entry is a clip. Features that were published per annotation row are imported with one entry per row, and a column ``row``. Imported
stores may hold further streams (``motion``, labels ...), read by name. ``spec.json`` records what made the numbers, and the CRC-32 of
every other file. It is compared when the file is first used, so no number of a damaged file is used. Entries are read with ``pread``, not
through a memory map, because a process that maps a file is killed when another one cuts it short.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.sealed import unsealed, write_sealed

SHARD_BYTES = 512 * 2**20
BLOCK_BYTES = 16 * 2**20
CHECKSUMS = "crc32"  # in spec.json, by file; computed at 0.4 to 1 GB/s, which also warms the page cache for the reader
MODALITIES = ("visual", "audio")
SPEC, INDEX = "spec.json", "index.parquet"


@dataclass(frozen=True)
class Seen:
    """A file of a store when its checksum was right; equal facts mean that nobody has written to it since."""

    inode: int
    size: int
    written: int  # nanoseconds

    @classmethod
    def of(cls, facts: os.stat_result) -> Seen:
        return cls(facts.st_ino, facts.st_size, facts.st_mtime_ns)


@dataclass(frozen=True)
class Entry:
    """One clip to be stored: its line of the index, and its features by modality, (T, *shape)."""

    facts: dict[str, Any]
    features: dict[str, np.ndarray]


class FeatureStore:
    """Reader of a store; ``shapes`` holds the shape of one segment by modality (or other stream)."""

    def __init__(self, directory: str | Path) -> None:
        directory = Path(directory)
        if not (directory / SPEC).is_file():
            raise PipelineError(f"{directory} is not a feature store; `dvc repro` makes it")
        self.directory = directory
        self._seen = {SPEC: Seen.of(os.stat(directory / SPEC))}
        self._starts: dict[str, int] = {}  # by shard: the place of its first number
        content = (directory / SPEC).read_bytes()
        try:
            self.spec = unsealed(content.decode())
            self._checksums: dict[str, int] = {**self.spec.pop(CHECKSUMS, {}), SPEC: zlib.crc32(content)}
        except (ValueError, AttributeError) as error:
            raise PipelineError(f"{directory}/spec.json is damaged ({error}); {_again(directory)}") from error
        self._entries = pd.read_parquet(self._whole(INDEX))
        self.index = self._entries.drop_duplicates("clip").set_index("clip")  # with one entry per row: the first of each clip
        self._by_clip = pd.Series(self._entries.index, index=self._entries["clip"])[~self._entries["clip"].duplicated().to_numpy()]
        streams = sorted(self.spec["shapes"], key=lambda stream: (*MODALITIES, stream).index(stream))  # the two modalities first
        self.shapes = {stream: tuple(self.spec["shapes"][stream]) for stream in streams}
        self.segments = int(self.spec["segments"])

    def __contains__(self, clip: str) -> bool:
        return clip in self.index.index

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.index)

    def entries(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        """Find the entry of each row of a data set's index (columns row and clip); -1: no features.

        Returns:
            (N,) int64.
        """
        if "row" not in self._entries:
            return self._by_clip.reindex(rows["clip"]).fillna(-1).to_numpy(np.int64)
        by_row = pd.Series(self._entries.index, index=self._entries["row"])
        return by_row.reindex(rows["row"]).fillna(-1).to_numpy(np.int64)

    def read(self, modality: str, clips: Sequence[str]) -> np.ndarray:
        """Read the features of the given clips in order, (N, T, *shape) in the stored dtype.

        Raises:
            KeyError: a clip is not in the store.
        """
        return self.read_entries(modality, self._by_clip.loc[list(clips)].to_numpy(np.int64))

    def read_entries(self, modality: str, entries: NDArray[np.int64]) -> np.ndarray:
        """Read entries, numbered as in :meth:`entries`, in order: (N, T, *shape) in the stored dtype.

        Raises:
            PipelineError: a file is missing, damaged, or was changed since it was first read.
        """
        result = np.empty((len(entries), self.segments, *self.shapes[modality]), dtype=self.spec["dtype"])
        self.read_into(result, modality, entries)
        return result

    def read_into(self, out: np.ndarray, modality: str, entries: NDArray[np.int64]) -> None:
        """Read as :meth:`read_entries`, into contiguous memory; several threads may do so at a time, after :meth:`verify`."""
        shards, offsets = (self._entries[column].to_numpy()[entries].tolist() for column in ("shard", "offset"))
        for values, shard, offset in zip(out, shards, offsets, strict=True):
            self._read(shard_name(modality, shard), offset * values.nbytes, values)

    def verify(self, modality: str, entries: NDArray[np.int64]) -> None:
        """Compare the checksums of the shards that hold these entries; each is read whole once in the store's life."""
        for shard in self._entries["shard"].iloc[entries].unique():
            self._start(shard_name(modality, shard))

    def check_unchanged(self) -> None:
        """Check that no other program has changed a file since it was first read.

        Raises:
            PipelineError: a file was removed, replaced or written to, and its content is another now.
        """
        for name in list(self._seen):
            self._same(name, self.directory / name)

    def valid(self, clips: Sequence[str]) -> np.ndarray:
        """Mask of the segments inside their clips, (N, T) bool: False beyond a clip's end."""
        return self.valid_entries(self._by_clip.loc[list(clips)].to_numpy(np.int64))

    def valid_entries(self, entries: NDArray[np.int64]) -> np.ndarray:
        """Mask as :meth:`valid`, for entries numbered as in :meth:`entries`."""
        return np.array([list(valid) for valid in self._entries["valid"].iloc[entries]], dtype=bool).reshape(len(entries), self.segments)

    def _read(self, name: str, place: int, values: np.ndarray) -> None:
        """Read an entry that begins ``place`` bytes after the first number of a shard."""
        path, start = self.directory / name, self._start(name)
        view = values.reshape(-1).view(np.uint8).data
        done = 0
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # not kept: a large store has more shards than a process may open
            try:
                while done < len(view) and (count := os.preadv(descriptor, [view[done:]], start + place + done)):
                    done += count
                facts = Seen.of(os.fstat(descriptor))  # after reading, so what was read is what was verified
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise self._changed(path) from None
        if done < len(view):
            raise self._changed(path)
        if facts != self._seen[name]:
            self._same(name, path)

    def _start(self, name: str) -> int:
        """The place of the first number of a shard, which is verified before it is first read."""
        if name not in self._starts:
            path = self._whole(name)
            with open(path, "rb") as stream:
                try:
                    version = np.lib.format.read_magic(stream)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                    shape, by_column, dtype = read(stream)
                except ValueError as error:
                    raise PipelineError(f"{path} is damaged ({error}); {_again(self.directory)}") from error
                stream_shape = (self.segments, *self.shapes[name.rpartition("-")[0]])
                if by_column or shape[1:] != stream_shape or dtype != np.dtype(self.spec["dtype"]):
                    raise PipelineError(
                        f"{path} holds {dtype} of shape {shape}, and spec.json says {self.spec['dtype']} of {stream_shape} per entry;"
                        f" {_again(self.directory)}"
                    )
                self._starts[name] = stream.tell()
        return self._starts[name]

    def _whole(self, name: str) -> Path:
        """Return the path of a file of the store once its checksum is verified.

        Raises:
            PipelineError: the file is missing or damaged; the message says what to do.
        """
        path = self.directory / name
        if not path.is_file():
            raise PipelineError(f"{path} is missing; {_again(self.directory)}")
        before = Seen.of(os.stat(path))
        if name in self._checksums and checksum(path) != self._checksums[name]:  # stores of earlier versions have no checksums
            raise PipelineError(f"{path} is damaged: its CRC-32 is not the one in spec.json; {_again(self.directory)}")
        self._seen[name] = before
        return path

    def _same(self, name: str, path: Path) -> None:
        """Check a file that may have been written to.

        Only another content counts, so a new date or a copy does no harm.
        """
        try:
            found = Seen.of(os.stat(path))
            if found == self._seen[name]:
                return
            if name not in self._checksums or checksum(path) != self._checksums[name]:
                raise self._changed(path)
        except FileNotFoundError:
            raise self._changed(path) from None
        self._seen[name] = found

    def _changed(self, path: Path) -> PipelineError:
        return PipelineError(
            f"{path} was changed by another program while it was in use; finished seeds and the last checkpoints are kept: let that"
            f" program end, then run again (if the store is damaged: {_again(self.directory)})"
        )


def _again(directory: Path) -> str:
    return f"remove {directory} and run `dvc repro`, which makes it again"


def checksum(path: Path) -> int:
    """Compute the CRC-32 of a file."""
    found = 0
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            found = zlib.crc32(block, found)
    return found


def shard_name(modality: str, number: int) -> str:
    return f"{modality}-{number:03d}.npy"


def entry_shapes(spec: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of an entry, (T, *shape), by modality (or other stream) of a store with this spec."""
    return {stream: (int(spec["segments"]), *shape) for stream, shape in spec["shapes"].items()}


def entries_per_shard(spec: dict[str, Any], shard_bytes: int = SHARD_BYTES) -> int:
    """Count the entries that fill a shard of the widest modality; all modalities' shards hold as many."""
    largest = max(int(np.prod(shape)) for shape in entry_shapes(spec).values()) * np.dtype(spec["dtype"]).itemsize
    return max(1, shard_bytes // largest)


def write_store(directory: Path, entries: Iterable[Entry], count: int, spec: dict[str, Any], shard_bytes: int = SHARD_BYTES) -> None:
    """Write a store of ``count`` entries, in their order.

    Args:
        spec: must hold ``segments`` (T), ``dtype`` and ``shapes`` (of one segment, by modality).
    """
    shapes = entry_shapes(spec)
    per_shard = entries_per_shard(spec, shard_bytes)
    records: list[dict[str, Any]] = []
    with ExitStack() as stack:
        shards: dict[str, BinaryIO] = {}
        for position, entry in enumerate(entries):
            shard, offset = divmod(position, per_shard)
            if offset == 0:
                stack.close()  # the shards before
                length = min(per_shard, count - position)
                for modality in MODALITIES:
                    path = directory / shard_name(modality, shard)
                    shards[modality] = stack.enter_context(begin_shard(path, (length, *shapes[modality]), spec["dtype"]))
            for modality in MODALITIES:
                write_entries(shards[modality], np.ascontiguousarray(entry.features[modality], spec["dtype"]).reshape(shapes[modality]))
            records.append({**entry.facts, "shard": shard, "offset": offset})
    write_documents(directory, records, spec)


def write_documents(directory: Path, records: Iterable[dict[str, Any]], spec: dict[str, Any], with_rows: bool = False) -> None:
    """Write ``index.parquet`` (``row``: only where entries are annotation rows) and ``spec.json``, after all shards."""
    keys = [f"{stream}_key" for stream in spec["shapes"]]
    columns = ["clip", *(["row"] if with_rows else []), "shard", "offset", "status", "valid", "visual_valid", "audio_valid", *keys]
    pd.DataFrame(records, columns=columns).to_parquet(directory / INDEX, index=False)
    shards = [path for stream in spec["shapes"] for path in sorted(directory.glob(f"{stream}-[0-9]*.npy"))]
    checksums = {path.name: checksum(path) for path in [directory / INDEX, *shards]}
    write_sealed(directory / SPEC, {**spec, CHECKSUMS: checksums}, sort_keys=True)


def begin_shard(path: Path, shape: tuple[int, ...], dtype: str) -> BinaryIO:
    """Start a .npy file with its header, for :func:`write_entries`.

    Not a memory map, because a full disk would kill a process that writes to one.
    """
    stream = open(path, "wb", buffering=0)  # noqa: SIM115
    np.lib.format.write_array_header_1_0(stream, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
    return stream


def write_entries(stream: BinaryIO, values: np.ndarray) -> None:
    """Append the numbers of a contiguous array; one call of ``write`` may take only a part of them."""
    view = values.reshape(-1).view(np.uint8).data
    while len(view):
        view = view[stream.write(view) :]
