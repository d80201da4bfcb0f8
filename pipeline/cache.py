"""The per-clip cache: content-addressed entries that outlive DVC's outs, so no finished clip is computed twice.

An entry is one uncompressed ``.npz``: named arrays plus a small JSON document. It is written under a temporary name and renamed, so a
reader sees all of it or nothing. ``.npz`` carries a CRC per array, so a damaged entry reads as absent and is made again.
Arrays are written and read here in one piece each: NumPy copies them through many small ones, at twice the cost.
If the cache itself cannot be read or written (permissions, a full disk), that is a :class:`CacheError`.
The cache is at one absolute path outside the project: ``cache.dir`` in params.yaml, else $AVEL_CACHE, else ~/.cache/avel-pipeline.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.disk import disk_fault, name_place
from pipeline.errors import PipelineError
from pipeline.publish import replacing

CACHE_VARIABLE = "AVEL_CACHE"
ARRAYS = "arrays"  # key of the arrays' names in the document; the zip's own table of contents has no checksum
TRIES = 20
LONGEST_HEADER = 2**16 + 10  # bytes of a .npy header in its first version, which all entries have
DAMAGE = {None, errno.EINVAL, errno.EIO}  # errors of reading a damaged entry: offsets outside the file, a bad block


class CacheError(PipelineError):
    """The cache itself cannot be read or written."""


def default_root() -> Path:
    """The path of the cache if params.yaml sets none."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/avel-pipeline").expanduser().absolute()


def fingerprint(*parts: Any) -> str:
    """The sha256 (hex) of JSON-serialisable parts; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Cache:
    """Cache entries by kind ("decoded", "features") and key (hex)."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root).expanduser().absolute() if root else default_root()

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / f"{key}.npz"

    def put(self, kind: str, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None) -> None:
        """Write one entry whole.

        Two writers of one key write the same content, so it does not matter which rename comes last.

        Raises:
            CacheError: the entry cannot be written.
        """
        path = self.path(kind, key)
        partial = path.with_name(f".{key}.{secrets.token_hex(8)}.partial")  # threads share a process id, and so do containers
        document = json.dumps({**(facts or {}), ARRAYS: sorted(arrays)}, sort_keys=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, partial), open(partial, "wb") as stream:
                _write(stream, {"facts": np.array(document), **arrays})
        except OSError as error:
            name_place(error, path)
            reason = disk_fault(error) or f"{error}; finished clips are kept"
            raise CacheError(f"the cache {self.root} cannot be written: {reason}") from error

    def get(self, kind: str, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read (arrays, facts) of an entry; None if it is absent or damaged (a damaged entry is removed).

        Raises:
            CacheError: the entry exists but cannot be read.
        """
        return self._read(kind, key)

    def facts(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read only the JSON document of an entry, not its arrays.

        Raises:
            CacheError: the entry exists but cannot be read.
        """
        entry = self._read(kind, key, only_facts=True)
        return None if entry is None else entry[1]

    def has(self, kind: str, key: str) -> bool:
        return self.path(kind, key).is_file()

    def _read(self, kind: str, key: str, only_facts: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        path = self.path(kind, key)
        try:
            arrays = _arrays(path, only_facts)
            facts = json.loads(str(arrays.pop("facts")))
            if only_facts or sorted(arrays) == facts.pop(ARRAYS, sorted(arrays)):
                facts.pop(ARRAYS, None)
                return arrays, facts
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in DAMAGE:
                raise CacheError(f"the cache entry {path} cannot be read: {error}") from error
            reason = repr(error)
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, KeyError, EOFError) as error:
            reason = repr(error)
        else:
            reason = "arrays are missing"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CacheError(f"the cache entry {path} is damaged ({reason}) and cannot be removed: {error}") from error
        print(f"the cache entry {path} is damaged ({reason}); it is removed, and made again when needed", file=sys.stderr, flush=True)
        return None


def _write(stream: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as ``np.savez`` would, to the byte."""
    with zipfile.ZipFile(stream, "w") as file:
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise ValueError(f"{name!r} holds Python objects")
            header = np.lib.format.header_data_from_array_1_0(array)
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                member.write(np.ascontiguousarray(array.T if header["fortran_order"] else array).reshape(-1).view(np.uint8).data)


def _arrays(path: Path, only_facts: bool) -> dict[str, np.ndarray]:
    """Read the arrays of an entry, "facts" among them.

    NumPy parses an array's header as Python, and Python 3.11 may raise a SystemError when two threads parse at once (gh-106905). The entry
    itself is fine, so it is read again.
    """
    for _ in range(TRIES):
        with suppress(SystemError), open(path, "rb") as stream, zipfile.ZipFile(stream) as file:
            members = [file.getinfo("facts.npy")] if only_facts else file.infolist()
            return {member.filename.removesuffix(".npy"): _array(stream, member) for member in members}
    raise CacheError(f"the cache entry {path} cannot be read: NumPy could not parse it in {TRIES} tries")


def _array(stream: IO[bytes], member: zipfile.ZipInfo) -> np.ndarray:
    """Read one array of an entry; nothing in it is looked at before its checksum holds.

    Raises:
        BadZipFile: the member's place, size or checksum is wrong.
        ValueError: it is no array of numbers.
    """
    stream.seek(member.header_offset)
    lengths = struct.unpack("<26xHH", stream.read(30))  # of the name and of the extra field that precede the content
    stream.seek(sum(lengths), os.SEEK_CUR)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > os.fstat(stream.fileno()).st_size:
        raise zipfile.BadZipFile(f"{member.filename} is not stored as it was written")
    content = np.empty(member.file_size, np.uint8)
    if stream.readinto(content.data) < len(content) or zlib.crc32(content.data) != member.CRC:  # type: ignore[attr-defined]
        raise zipfile.BadZipFile(f"bad CRC-32 of {member.filename}")
    start = io.BytesIO(content[:LONGEST_HEADER].tobytes())
    np.lib.format.read_magic(start)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(start)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects")
    return content[start.tell() :].view(dtype).reshape(shape, order="F" if fortran_order else "C")
