"""A local copy of a store's entries: a directory of bounded size.

The entries used least recently go first. Several processes may share it, also of several machines: entries come by rename, go by unlink,
and are counted under a lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

from pipeline.cache.local import Directory

COUNTED = ".bytes"  # name of the file with the number of bytes in the copy; its lock guards every change
ROOM = 0.1  # share of the bound that is freed beyond what is needed, so that few entries cost a listing


class LocalCopy(Directory):
    """The entries of a store that this machine used last.

    Args:
        most: bytes of all entries together.
    """

    def __init__(self, root: Path, most: int) -> None:
        super().__init__(root)
        self.most, self._listed = most, False

    def take(self, made: Path, kind: str, key: str) -> None:
        """Move a file into the copy as an entry, removing others if there is no room.

        A file larger than the copy may be is removed itself.

        Raises:
            OSError: the copy cannot be written.
        """
        size, path = made.stat().st_size, self.path(kind, key)
        if size > self.most:
            made.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._counted() as count:
            if path.exists():
                size = 0
            total = self._bytes(count) + size
            if total > self.most:
                total = self._evict(self.most * (1 - ROOM) - size) + size
            os.truncate(count, 0)
            os.pwrite(count, str(total).encode(), 0)  # before the file moves: the count is too high, never too low, if this process ends
            os.replace(made, path)

    @contextmanager
    def _counted(self) -> Iterator[int]:
        """Hold the lock of the count, opened for reading and writing."""
        descriptor = os.open(self.root / COUNTED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _bytes(self, count: int) -> int:
        """Bytes in the copy, as counted; listed once by each process, and whenever the count is unreadable."""
        written = os.pread(count, 32, 0)
        if self._listed and written.isdigit():
            return int(written)
        self._listed = True
        return sum(each.size for each in self.entries())

    def _evict(self, most: float) -> int:
        """Remove the entries used least recently until ``most`` bytes are left; returns how many are."""
        entries = sorted(self.entries(), key=attrgetter("used"))
        left = sum(each.size for each in entries)
        for each in entries:
            if left <= most:
                break
            self.path(each.kind, each.key).unlink(missing_ok=True)
            left -= each.size
        return left
