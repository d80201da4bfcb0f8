"""Entries in a directory, each written under a temporary name and renamed: a reader sees all of it or nothing."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pipeline.cache.entry import Damaged, Entry, read_entry, write_entry
from pipeline.cache.place import CacheError
from pipeline.disk import disk_fault, name_place
from pipeline.publish import replacing

PARTIAL = ".partial"
BLOCK = 4096  # bytes of an entry beside its arrays, roughly
TOUCHED_SECONDS = 60  # a use is noted in the file's time if that is older
NAME = re.compile(r"([^/]+)/([0-9a-f]{2})/(\2[0-9a-f]{62})\.npz")  # of a whole entry, below its cache
UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{16}\.partial")


class Listed(NamedTuple):
    """One entry of a listing; ``used`` is the time of its last known use, in seconds since 1970."""

    kind: str
    key: str
    size: int
    used: float


def name_of(kind: str, key: str) -> str:
    """Path of an entry below its cache."""
    return f"{kind}/{key[:2]}/{key}.npz"


class Directory:
    """Entries by kind ("decoded", "features") and key (hex) below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, key: str) -> Path:
        return self.root / name_of(kind, key)

    def partial(self, kind: str, key: str) -> Path:
        """A name of its own for an entry in the making: threads share a process id, and so do containers."""
        return self.path(kind, key).with_name(f".{key}.{secrets.token_hex(8)}{PARTIAL}")

    def put(self, kind: str, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None) -> None:
        """Write one entry whole.

        Two writers of one key write the same content, so it does not matter which rename comes last.

        Raises:
            CacheError: the entry cannot be written.
        """
        path, partial = self.path(kind, key), self.partial(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, partial), open(partial, "wb") as stream:
                write_entry(stream, arrays, facts)
        except OSError as error:
            name_place(error, path)
            needed = BLOCK + sum(array.nbytes for array in arrays.values())
            reason = disk_fault(error, needed=needed) or f"{error}; finished clips are kept"
            raise CacheError(f"the cache {self.root} cannot be written: {reason}") from error

    def read(self, kind: str, key: str, only_facts: bool = False) -> Entry | None:
        """Read an entry, or its facts; None if it is absent or damaged (a damaged entry is removed).

        Raises:
            CacheError: the entry exists but cannot be read.
        """
        path = self.path(kind, key)

        def opened() -> IO[bytes]:
            stream = open(path, "rb")  # noqa: SIM115
            _touch(stream)
            return stream

        try:
            return read_entry(opened, path, only_facts)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheError(f"the cache entry {path} cannot be read: {error}") from error
        except Damaged as damage:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise CacheError(f"the cache entry {path} is damaged ({damage}) and cannot be removed: {error}") from error
            print(f"the cache entry {path} is damaged ({damage}); it is removed, and made again when needed", file=sys.stderr, flush=True)
            return None

    def has(self, kind: str, key: str) -> bool:
        return self.path(kind, key).is_file()

    def remove(self, kind: str, key: str) -> None:
        """Remove an entry, if it is there.

        Raises:
            CacheError: it cannot be removed.
        """
        path = self.path(kind, key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CacheError(f"the cache entry {path} cannot be removed: {error}") from error

    def entries(self) -> Iterator[Listed]:
        """Yield all entries, in no order; what is no entry is passed over.

        Raises:
            CacheError: the directory cannot be read.
        """
        for file in self._files():
            if match := NAME.fullmatch("/".join(file.path.rsplit("/", 3)[1:])):
                with suppress(FileNotFoundError):  # another process was faster
                    facts = file.stat()
                    yield Listed(match[1], match[3], facts.st_size, facts.st_mtime)

    def leftovers(self, older_than: float) -> Iterator[tuple[Path, int]]:
        """Yield (path, size) of what killed processes left unfinished, untouched for that many seconds."""
        for file in self._files():
            if UNFINISHED.fullmatch(file.name):
                with suppress(FileNotFoundError):
                    facts = file.stat()
                    if time.time() - facts.st_mtime > older_than:
                        yield Path(file.path), facts.st_size

    def _files(self) -> Iterator[os.DirEntry[str]]:
        """Yield everything at the depth of an entry."""
        try:
            for kind in _directories(self.root):
                for folder in _directories(kind):
                    with os.scandir(folder) as files:
                        yield from files
        except FileNotFoundError:
            return
        except OSError as error:
            raise CacheError(f"the cache {self.root} cannot be listed: {error}") from error


def _directories(parent: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    with os.scandir(parent) as found:
        return sorted((each for each in found if each.is_dir(follow_symlinks=False)), key=lambda each: each.name)


def _touch(stream: IO[bytes]) -> None:
    """Note the use of an entry in its file's time, at most once a minute, and where that is allowed."""
    if time.time() - os.fstat(stream.fileno()).st_mtime > TOUCHED_SECONDS:
        with suppress(OSError):
            os.utime(stream.fileno())
