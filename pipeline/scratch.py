"""Temporary directories that go with their process, or, where that was killed, at the next start of one like it."""

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
    """A new directory; it is removed by :meth:`close`, when this object goes, or at the end of the process.

    A file in it is locked for as long as the process lives. The system frees the lock however the process ends, so what nobody holds is
    what a killed process left: the next scratch directory of that name in that place removes it.

    Args:
        prefix: of the directory's name.
        parent: where it lies; the system's directory for temporary files by default.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        remove_abandoned(parent, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = os.open(self.path / f"{ALIVE}.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.rename(self.path / f"{ALIVE}.new", self.path / ALIVE)  # never seen without its lock
        self.close: Callable[[], None] = weakref.finalize(self, _remove, self.path, descriptor)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the scratch directories of this user whose process is gone."""
    for directory in parent.glob(f"{prefix}*"):
        try:
            descriptor = os.open(directory / ALIVE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # no scratch directory, or another user's
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
