"""Read published HDF5 and .npy files, one array each, without trusting them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import h5py
import numpy as np

from pipeline.text import read_text

LARGEST_CHUNK = 2**30  # bytes; a chunk is unpacked whole, however little of it is read
MOST_NAMED = 20  # keys, in a message
MADE_BY = "made_by"  # attribute of HDF5 files with made-up numbers, or made_by.txt beside files of one clip: the command that made them
KEYS = ("avadataset", "order", "dataset")  # as AVE's authors, and those who extracted features for it, named them


@contextmanager
def open_dataset(path: Path) -> Iterator[h5py.Dataset]:
    """Open the one array of an HDF5 file, under a known key or, if alone, under any key.

    Raises:
        ValueError: the file is missing, not HDF5, truncated, holds no single candidate, or refers to other files.
    """
    if not path.is_file():
        raise ValueError("no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"not a whole HDF5 file ({' '.join(str(error).split())})") from None
    with file:
        arrays = [key for key in file if isinstance(file.get(key, getlink=True), h5py.HardLink) and isinstance(file[key], h5py.Dataset)]
        chosen = [key for key in KEYS if key in arrays] or arrays
        if len(chosen) != 1:
            found = ", ".join([*map(str, islice(file, MOST_NAMED)), *(["..."] if len(file) > MOST_NAMED else [])]) or "nothing"
            raise ValueError(f"one array under one of the keys {', '.join(KEYS)} is needed; found: {found}")
        dataset = file[chosen[0]]
        if dataset.is_virtual or dataset.external:
            raise ValueError("its array lies in other files; copy it into one file")
        if dataset.chunks and (chunk := math.prod(dataset.chunks) * dataset.dtype.itemsize) > LARGEST_CHUNK:
            raise ValueError(f"each of its chunks takes {chunk} bytes of memory, more than {LARGEST_CHUNK}; store it with smaller ones")
        yield dataset


def made_by(path: Path) -> str | None:
    """The command that made up the numbers of an HDF5 file, or of a directory's files; None for others."""
    if path.is_dir():
        note = path / f"{MADE_BY}.txt"
        return read_text(note).strip() if note.is_file() else None
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs[MADE_BY]) if MADE_BY in file.attrs else None
    except OSError:
        return None


def read_array(path: Path, shape: tuple[int | None, ...], longest: int = 0) -> np.ndarray:
    """Read a small published array whole.

    Args:
        shape: None stands for any length up to ``longest``.
        longest: needed because a small file may state any size.

    Raises:
        ValueError: as :func:`open_dataset`; or the array has another shape, is not of numbers, or is not finite.
    """
    with open_dataset(path) as dataset:
        if len(dataset.shape) != len(shape) or any(want not in (None, have) for want, have in zip(shape, dataset.shape, strict=True)):
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise ValueError(f"shape {dataset.shape} instead of ({wanted})")
        if long := [have for want, have in zip(shape, dataset.shape, strict=True) if want is None and have > longest]:
            raise ValueError(f"{long[0]} entries, where at most {longest} make sense")
        if dataset.dtype.kind not in "iuf":
            raise ValueError(f"type {dataset.dtype}, not numbers")
        try:
            values = dataset[()]
        except OSError as error:  # a chunk whose bytes are damaged
            raise ValueError(f"its numbers cannot be read ({' '.join(str(error).split())}); get the file again") from None
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} values are not finite")
    return values


def npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Read shape, dtype and the numbers' offset in bytes from a .npy file's header; nothing is unpickled.

    Raises:
        ValueError: the file is missing, not .npy, holds Python objects, is in Fortran order, or truncated.
    """
    if path.exists() and not path.is_file():
        raise ValueError("a directory, a pipe or a device, not a file")
    try:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(stream)
            offset = stream.tell()
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"not a .npy file ({' '.join(str(error).split())})") from None
    if dtype.hasobject:
        raise ValueError("holds Python objects (pickle), which are never loaded; save it as plain numbers")
    if fortran and len(shape) > 1:
        raise ValueError("is in Fortran order; save np.ascontiguousarray of it")
    if min(shape, default=0) < 0:
        raise ValueError(f"states the shape {shape}")
    size, needed = path.stat().st_size, offset + math.prod(shape) * dtype.itemsize
    if size < needed:
        raise ValueError(f"truncated: {size} of {needed} bytes")
    return shape, dtype, offset
