"""Read an archive's entries without writing anything: safe relative paths, sizes, and reasons to refuse them."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from pipeline.errors import PipelineError

LONGEST_PATH = 1000  # characters
LARGEST_READ = 64 * 2**20  # bytes; a tar header that asks for more is a bomb, and tarfile would read it whole
READ_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError)
_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    kind: file, link, directory or other (a device, a pipe).
    size: bytes once unpacked.
    target: of a link, relative to the archive's root where ``hard``, else to the link's own directory.
    """

    name: str
    kind: str
    size: int = 0
    target: str = ""
    hard: bool = False
    encrypted: bool = False


class Archive(Protocol):
    def members(self) -> Iterator[Member]:
        """Entries in stored order, so that a compressed tar needs no seeking."""

    def contents(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Name and stream of each regular file in that order; a stream is valid until the next one."""


def safe_path(name: str) -> str:
    """Turn an entry's name into a relative path without ``.``.

    Raises:
        ValueError: the name is not safe as a path; gives the reason.
    """
    path = PurePosixPath(name)
    if "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise ValueError("leads out of the directory it is unpacked into, or holds a backslash or drive letter")
    if not path.parts:
        raise ValueError("has no name")
    if len(name) > LONGEST_PATH:
        raise ValueError(f"has a path of more than {LONGEST_PATH} characters")
    if any(len(part.encode(errors="surrogateescape")) > 240 for part in path.parts):
        raise ValueError("has a name of more than 240 bytes")
    return path.as_posix()


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file, recognised by its first bytes, not by its name.

    Raises:
        PipelineError: the file is none of these, or its data are damaged (also from inside the block).
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield ZipArchive(archive)
            return
        with open(path, "rb") as raw:
            start = raw.read(6)
        decompress = next((function for magic, function in _COMPRESSED.items() if start.startswith(magic)), open)
        with decompress(path, "rb") as stream, tarfile.open(fileobj=BoundedReader(stream), mode="r:") as archive:  # type: ignore[call-overload]
            yield TarArchive(archive)
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file") from None
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PipelineError(f"{path}: the disk is full; the files written so far are kept: free some space, run it again") from error
        raise PipelineError(f"{path}: not an archive that can be read whole ({type(error).__name__}: {error}); get it again") from error


class BoundedReader:
    """A stream that refuses reads of more than :data:`LARGEST_READ` bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise tarfile.ReadError(f"a header asks for {size} bytes at once")
        return self._stream.read(size)


class TarArchive:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def members(self) -> Iterator[Member]:
        for info in self._archive:
            if info.isreg():
                yield Member(info.name, "other" if info.issparse() else "file", info.size)
            elif info.issym() or info.islnk():
                yield Member(info.name, "link", target=info.linkname, hard=info.islnk())
            else:
                yield Member(info.name, "directory" if info.isdir() else "other")
        if not self._archive.offset:
            raise tarfile.ReadError("it is empty")

    def contents(self) -> Iterator[tuple[str, IO[bytes]]]:
        for info in self._archive:
            if info.isreg() and (stream := self._archive.extractfile(info)) is not None:
                yield info.name, stream


class ZipArchive:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def members(self) -> Iterator[Member]:
        for info in self._archive.infolist():
            mode = info.external_attr >> 16
            encrypted = bool(info.flag_bits & 1)
            if info.is_dir():
                yield Member(info.filename, "directory")
            elif stat.S_ISLNK(mode):
                with self._archive.open(info) as stream:
                    yield Member(info.filename, "link", target=stream.read(4096).decode(errors="replace"))
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                yield Member(info.filename, "other")
            else:
                yield Member(info.filename, "file", info.file_size, encrypted=encrypted)

    def contents(self) -> Iterator[tuple[str, IO[bytes]]]:
        for info in self._archive.infolist():
            if stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG) and not info.is_dir():
                with self._archive.open(info) as stream:
                    yield info.filename, stream
