"""The feature store: .npy shards opened as memory maps, a parquet index, one spec document.

``visual-000.npy`` holds (entries, T, *visual_shape), ``audio-000.npy`` (entries, T, *audio_shape), in the order of ``index.parquet``
(clip, shard, offset, status, valid: (T,) bool, visual_valid, audio_valid, and each modality's cache key, which identifies its content).
An entry is a clip. Features that were published per annotation row are imported with one entry per row, and a column ``row``. Imported
stores may hold further streams (``motion``, labels ...), read by name. ``spec.json`` records what made the numbers, and the CRC-32 of
every other file. It is compared when the file is opened, so no number of a damaged file is used.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Entry:
    """One clip to be stored: its line of the index, and its features by modality, (T, *shape)."""

    facts: dict[str, Any]
    features: dict[str, np.ndarray]


class FeatureStore:
    """Reader of a store; ``shapes`` holds the shape of one segment by modality (or other stream)."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "spec.json").is_file():
            raise PipelineError(f"{directory} is not a feature store; `dvc repro` makes it")
        self.directory = directory
        try:
            self.spec = unsealed((directory / "spec.json").read_text(encoding="utf-8"))
            self._checksums: dict[str, int] = self.spec.pop(CHECKSUMS, {})
        except (ValueError, AttributeError) as error:
            raise PipelineError(f"{directory}/spec.json is damaged ({error}); {_again(directory)}") from error
        self._entries = pd.read_parquet(self._whole("index.parquet"))
        self.index = self._entries.drop_duplicates("clip").set_index("clip")  # with one entry per row: the first of each clip
        self._by_clip = pd.Series(self._entries.index, index=self._entries["clip"])[~self._entries["clip"].duplicated().to_numpy()]
        streams = sorted(self.spec["shapes"], key=lambda stream: (*MODALITIES, stream).index(stream))  # the two modalities first
        self.shapes = {stream: tuple(self.spec["shapes"][stream]) for stream in streams}
        self.segments = int(self.spec["segments"])
        self._shards: dict[tuple[str, int], np.ndarray] = {}

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
        """Read entries, numbered as in :meth:`entries`, in order: (N, T, *shape) in the stored dtype."""
        rows = self._entries.iloc[entries]
        result = np.empty((len(rows), self.segments, *self.shapes[modality]), dtype=self.spec["dtype"])
        for position, (shard, offset) in enumerate(zip(rows["shard"], rows["offset"], strict=True)):
            result[position] = self._shard(modality, shard)[offset]
        return result

    def valid(self, clips: Sequence[str]) -> np.ndarray:
        """Mask of the segments inside their clips, (N, T) bool: False beyond a clip's end."""
        return self.valid_entries(self._by_clip.loc[list(clips)].to_numpy(np.int64))

    def valid_entries(self, entries: NDArray[np.int64]) -> np.ndarray:
        """Mask as :meth:`valid`, for entries numbered as in :meth:`entries`."""
        return np.array([list(valid) for valid in self._entries["valid"].iloc[entries]], dtype=bool).reshape(len(entries), self.segments)

    def _shard(self, modality: str, number: int) -> np.ndarray:
        if (modality, number) not in self._shards:
            path = self._whole(shard_name(modality, number))
            self._shards[modality, number] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._shards[modality, number]

    def _whole(self, name: str) -> Path:
        """Return the path of a file of the store once its checksum is verified.

        Raises:
            PipelineError: the file is missing or damaged; the message says what to do.
        """
        path = self.directory / name
        if not path.is_file():
            raise PipelineError(f"{path} is missing; {_again(self.directory)}")
        if name in self._checksums and checksum(path) != self._checksums[name]:  # stores of earlier versions have no checksums
            raise PipelineError(f"{path} is damaged: its CRC-32 is not the one in spec.json; {_again(self.directory)}")
        return path


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
    pd.DataFrame(records, columns=columns).to_parquet(directory / "index.parquet", index=False)
    shards = [path for stream in spec["shapes"] for path in sorted(directory.glob(f"{stream}-[0-9]*.npy"))]
    checksums = {path.name: checksum(path) for path in [directory / "index.parquet", *shards]}
    write_sealed(directory / "spec.json", {**spec, CHECKSUMS: checksums}, sort_keys=True)


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
