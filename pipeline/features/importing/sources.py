"""Readers of published files: check every header first, then read blocks of entries in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import h5py
import numpy as np
import pandas as pd

from pipeline.datasets.arrays import npy_header, open_dataset
from pipeline.errors import PipelineError
from pipeline.features.importing.fitting import CLAP_ROWS, average, clap_map, first_rows, segments_of
from pipeline.features.importing.settings import ID, Source

NO_LABEL = -1.0  # not a valid label: training refuses it


class Reader(Protocol):
    """One stream's entries, 0 to N - 1, in the order of the store."""

    paths: list[Path]

    def problems(self) -> list[str]:
        """List every fault that shows without reading the numbers."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read (stop - start, T, *shape) in the dtype of the file; called from several threads."""

    def name(self, entry: int) -> str:
        """Name the place of an entry, for messages."""

    def close(self) -> None: ...


def outside(path: Path, directory: Path) -> str | None:
    """Explain why a file is refused: a link on its path leads out of the directory. None: it does not."""
    inside = path.resolve().is_relative_to(directory.resolve())
    return None if inside else f"{path}: a link that leads out of {directory}; copy the file there"


def expected_shapes(source: Source, segments: int) -> list[tuple[int, ...]]:
    """Shapes that one entry may have with ``time: segments``: (T, *shape), or joined, (T * shape[0], *shape[1:])."""
    joined = (segments * source.shape[0], *source.shape[1:])
    return [(segments, *source.shape), *([joined] if len(source.shape) > 1 else [])]


def type_problem(dtype: np.dtype) -> str | None:
    return None if dtype.kind in "fiub" else f"type {dtype}: numbers are needed"


@dataclass(frozen=True)
class RowFile:
    """An array file with entry ``first + i`` at index i; it must hold ``count`` entries."""

    path: Path
    first: int
    count: int


class RowArray:
    """Arrays over all annotation rows, and a second file with the negatives.

    An uncompressed array is read from the file by its offset, because HDF5 holds its global lock while it reads.
    """

    def __init__(self, source: Source, directory: Path, rows: int, negatives: int, segments: int) -> None:
        self.source, self.directory, self.segments = source, directory, segments
        self.parts = [RowFile(directory / source.file, 0, rows)]
        if source.negatives:
            self.parts.append(RowFile(directory / source.negatives, rows, negatives))
        self.paths = [part.path for part in self.parts]
        self._open = ExitStack()
        self._arrays: dict[Path, _Raw | h5py.Dataset] = {}
        self._opening = Lock()

    def problems(self) -> list[str]:
        return [problem for part in self.parts for problem in self._problems(part)]

    def _problems(self, part: RowFile) -> Iterator[str]:
        if refused := outside(part.path, self.directory):
            yield refused
            return
        try:
            with _opened(part.path) as array:
                shape, dtype = tuple(array.shape), array.dtype
        except ValueError as error:
            yield f"{part.path}: {error}"
            return
        if problem := type_problem(dtype):
            yield f"{part.path}: {problem}"
        wanted = [(part.count, *shape_of_one) for shape_of_one in expected_shapes(self.source, self.segments)]
        if shape not in wanted:
            hint = ""
            if shape[1:] in [one[1:] for one in wanted]:
                hint = "; the index has another number of annotation rows" if part.first == 0 else "; correct dataset.negatives"
            yield f"{part.path}: shape {shape} instead of {' or '.join(map(str, wanted))}{hint}"

    def read(self, start: int, stop: int) -> np.ndarray:
        pieces = []
        for part in self.parts:
            low, high = max(start, part.first) - part.first, min(stop, part.first + part.count) - part.first
            if low < high:
                try:
                    pieces.append(self._array(part.path)[low:high])
                except OSError as error:  # a damaged chunk
                    raise PipelineError(f"{part.path}: rows {low} to {high - 1} cannot be read ({error}); get the file again") from error
        block = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return block.reshape(stop - start, self.segments, *self.source.shape)

    def _array(self, path: Path) -> _Raw | h5py.Dataset:
        with self._opening:
            if path not in self._arrays:
                self._arrays[path] = self._open.enter_context(_opened(path))
            return self._arrays[path]

    def name(self, entry: int) -> str:
        part = next(part for part in self.parts if entry < part.first + part.count)
        return f"{part.path}: row {entry - part.first}"

    def close(self) -> None:
        self._open.close()
        self._arrays.clear()


class ClipFiles:
    """One .npy file per clip.

    For training-only streams, other clips' files are never opened: their entries hold :data:`NO_LABEL`.

    Args:
        clips: the entries, each with all the files it needs; the column ``trained`` marks training clips.
    """

    def __init__(self, source: Source, directory: Path, clips: pd.DataFrame, segments: int, segment_seconds: float) -> None:
        self.source, self.directory, self.segments = source, directory, segments
        read = clips["trained"] | (not source.training_only)
        self.files = [clip_path(source, directory, clip) if own else None for clip, own in zip(clips["clip"], read, strict=True)]
        self.paths = [path for path in self.files if path is not None]
        self.own = [segments_of(seconds, segments, segment_seconds) for seconds in clips["seconds"]]

    def problems(self) -> list[str]:
        return [problem for path in self.paths if (problem := self._problem(path))]

    def lengths(self) -> list[int]:
        """Count each entry's rows in its file with ``time: rows``, perhaps more than T; else the segments of its clip."""
        if self.source.time != "rows":
            return self.own
        return [self.segments if path is None else npy_header(path)[0][0] for path in self.files]

    def _problem(self, path: Path) -> str | None:
        if refused := outside(path, self.directory):
            return refused
        try:
            shape, dtype, _ = npy_header(path)
        except ValueError as error:
            return f"{path}: {error}"
        if problem := type_problem(dtype):
            return f"{path}: {problem}"
        if self.source.time in ("average", "rows"):
            fits, wanted = len(shape) == 2 and shape[0] > 0 and shape[1:] == self.source.shape, f"(n, {self.source.shape[0]}) with n > 0"
        elif self.source.time == "clap_map":
            fits, wanted = shape == (CLAP_ROWS, *self.source.shape), str((CLAP_ROWS, *self.source.shape))
        else:
            expected = expected_shapes(self.source, self.segments)
            fits, wanted = shape in expected, " or ".join(map(str, expected))
        return None if fits else f"{path}: shape {shape} instead of {wanted}"

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.stack([self._read_one(entry) for entry in range(start, stop)])

    def _read_one(self, entry: int) -> np.ndarray:
        path = self.files[entry]
        if path is None:
            return np.full((self.segments, *self.source.shape), NO_LABEL, np.float32)
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:  # its header was fine a moment ago
            raise PipelineError(f"{path}: cannot be read ({error}); was it changed meanwhile?") from None
        if self.source.time == "average":
            return average(values.astype(np.float32, copy=False), self.own[entry], self.segments)
        if self.source.time == "rows":
            return first_rows(values, self.segments)
        if self.source.time == "clap_map":
            return clap_map(values, self.segments)
        return values.reshape(self.segments, *self.source.shape)

    def name(self, entry: int) -> str:
        return str(self.files[entry])

    def close(self) -> None:
        """Do nothing: each file is closed once it is read."""


def clip_path(source: Source, directory: Path, clip: str) -> Path:
    return directory / source.file.replace(ID, clip)


class _Raw:
    """An array at ``offset`` in a file, sliced along its first axis.

    Not a memory map, because its pages would count as this process's memory.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int) -> None:
        self.path, self.shape, self.dtype, self._offset = path, shape, dtype, offset

    def __enter__(self) -> _Raw:
        self._descriptor = os.open(self.path, os.O_RDONLY)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def __getitem__(self, rows: slice) -> np.ndarray:
        block = np.empty((rows.stop - rows.start, *self.shape[1:]), self.dtype)
        view, position = block.reshape(-1).view(np.uint8).data, self._offset + rows.start * (block.nbytes // len(block))
        while len(view):  # one call reads 2 GiB at most, and may read less
            count = os.preadv(self._descriptor, [view], position)
            if not count:
                raise PipelineError(f"{self.path}: ends in row {rows.start} or later; was it changed meanwhile?")
            view, position = view[count:], position + count
        return block


def _opened(path: Path):
    """Open a file as a context manager that yields an array-like object with shape, dtype and slicing.

    Raises:
        ValueError: not a complete HDF5 or .npy file.
    """
    if path.suffix == ".npy":
        return _Raw(path, *npy_header(path))
    with open_dataset(path) as dataset:
        offset = dataset.id.get_offset()  # None where it is chunked or compressed
        if offset is not None and dataset.dtype.isnative:
            if path.stat().st_size < offset + dataset.nbytes:
                raise ValueError(f"truncated: {path.stat().st_size} of {offset + dataset.nbytes} bytes")
            return _Raw(path, dataset.shape, dataset.dtype, offset)
    return open_dataset(path)
