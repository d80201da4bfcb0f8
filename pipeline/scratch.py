"""Temporary directories that are removed with their process or, if it was killed, when a similar process starts."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

ALIVE = ".alive"


class Scratch:
    """A new directory, removed by :meth:`close`, with this object, or at the end of the process.

    A file in it is locked while the process lives. The system frees the lock when the process ends in any way, so a directory without a
    lock was left by a killed process; the next scratch directory with the same prefix and parent removes it.

    Args:
        prefix: prefix of the directory's name.
        parent: parent directory; by default the system's directory for temporary files.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        remove_abandoned(parent, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = os.open(self.path / f"{ALIVE}.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.rename(self.path / f"{ALIVE}.new", self.path / ALIVE)  # renamed after locking, so it is never seen unlocked
        self.close: Callable[[], None] = weakref.finalize(self, _remove, self.path, descriptor)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove this user's scratch directories left by processes that have ended."""
    for directory in parent.glob(f"{prefix}*"):
        try:
            descriptor = os.open(directory / ALIVE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # not a scratch directory, or another user's
            continue
        try:
            mine = os.fstat(descriptor).st_uid == os.getuid() and not directory.is_symlink()
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if mine:
                shutil.rmtree(directory, ignore_errors=True)
        except OSError:  # its process lives
            pass
        finally:
            os.close(descriptor)


def _remove(directory: Path, descriptor: int) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    os.close(descriptor)
