"""Hand arrays from a child process to its parent in shared memory: no file, no copy through a pipe.

The memory has no name and belongs to whoever holds it, so it is freed however the two processes end. It is none of /dev/shm, which
containers often limit to 64 MB.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

ALIGNED = 64  # bytes, at which each array begins
Layout = dict[str, tuple[tuple[int, ...], str, int]]  # by name: shape, dtype, first byte


@dataclass(frozen=True)
class Handed:
    """The result of a job in a child process, with arrays by name that are too large for a pipe."""

    content: Any
    arrays: Mapping[str, np.ndarray]


def lay_out(arrays: Mapping[str, np.ndarray]) -> tuple[int, Layout]:
    """Copy arrays into new shared memory; return its descriptor, which the caller closes, and where each array lies.

    Raises:
        OSError: the system has no memory or no descriptor left.
    """
    layout: Layout = {}
    descriptor = os.memfd_create("avel-arrays", os.MFD_CLOEXEC)
    try:
        place = 0
        for name, array in arrays.items():
            layout[name] = (array.shape, array.dtype.str, place)
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            while content:  # one write takes at most 2 GiB
                written = os.pwrite(descriptor, content, place)
                content, place = content[written:], place + written
            place = -(-place // ALIGNED) * ALIGNED
        os.ftruncate(descriptor, max(place, 1))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, layout


def give(connection: Connection, descriptor: int) -> None:
    """Send the descriptor to the process at the other end of the pipe, and close it here."""
    try:
        reduction.send_handle(connection, descriptor, os.getpid())
    finally:
        os.close(descriptor)


def take(connection: Connection, layout: Layout) -> dict[str, np.ndarray]:
    """Receive what :func:`give` sent: arrays in the shared memory, freed with the last of them.

    Raises:
        EOFError, OSError: the other process has ended.
    """
    descriptor = reduction.recv_handle(connection)
    try:
        shared = mmap.mmap(descriptor, os.fstat(descriptor).st_size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(descriptor)
    return {name: np.frombuffer(shared, dtype, math.prod(shape), place).reshape(shape) for name, (shape, dtype, place) in layout.items()}
