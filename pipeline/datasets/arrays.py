"""Published HDF5 files: one data set a file, opened without trusting it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

KEYS = ("avadataset", "order", "dataset")  # as AVE's authors, and those who extracted features for it, named them


@contextmanager
def open_dataset(path: Path) -> Iterator[h5py.Dataset]:
    """The one array of an HDF5 file, under a key in use or, if it is the only one, any other.

    Raises:
        ValueError: no such file, no HDF5 file (nor a truncated one), no array that is clearly meant, or one that refers to other files.
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
            found = ", ".join(map(str, file)) or "nothing"
            raise ValueError(f"one array under one of the keys {', '.join(KEYS)} is needed; found: {found}")
        dataset = file[chosen[0]]
        if dataset.is_virtual or dataset.external:
            raise ValueError("its array lies in other files; copy it into one file")
        yield dataset


def read_array(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """A small published array, whole; None in ``shape`` stands for any length.

    Raises:
        ValueError: as :func:`open_dataset`, or another shape, or not numbers, or NaN.
    """
    with open_dataset(path) as dataset:
        if len(dataset.shape) != len(shape) or any(want not in (None, have) for want, have in zip(shape, dataset.shape, strict=True)):
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise ValueError(f"shape {dataset.shape} instead of ({wanted})")
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
    """(shape, dtype, offset of the numbers in bytes) of a .npy file, without reading or unpickling anything.

    Raises:
        ValueError: no such file, no .npy file, one that holds Python objects, in Fortran order, or truncated; with the reason.
    """
    try:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(stream)
            offset = stream.tell()
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"no .npy file ({' '.join(str(error).split())})") from None
    if dtype.hasobject:
        raise ValueError("holds Python objects (pickle), which are never loaded; save it as plain numbers")
    if fortran and len(shape) > 1:
        raise ValueError("is in Fortran order; save np.ascontiguousarray of it")
    size, needed = path.stat().st_size, offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < needed:
        raise ValueError(f"truncated: {size} of {needed} bytes")
    return shape, dtype, offset
