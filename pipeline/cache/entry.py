"""The form of a cache entry: an uncompressed ``.npz`` of named arrays and a small JSON document.

``.npz`` carries a CRC per array, by which damage is noticed. Arrays are written and read here in one piece each: NumPy copies them through
many small ones, at twice the cost.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.cache.place import CacheError

ARRAYS = "arrays"  # key of the arrays' names in the document; the zip's own table of contents has no checksum
FACTS = "facts"  # name of the document, the first member of the zip
TRIES = 20
SHORT = 2**12  # bytes of an entry that hold most documents
END = struct.Struct("<4s8xII2x")  # the last record of a zip: its signature, length and place of the table of contents
BEGINNING = 2**15  # bytes of an entry that hold its document, unless that is very long
DAMAGE = {None, errno.EINVAL, errno.EIO}  # errors of reading a damaged entry: offsets outside the file, a bad block
Entry = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays and facts


class Damaged(Exception):
    """The bytes are not those of a whole entry; the message is the reason."""


def fingerprint(*parts: Any) -> str:
    """The sha256 (hex) of JSON-serialisable parts; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_entry(stream: IO[bytes], arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None) -> None:
    """Write arrays and facts as ``np.savez`` would, to the byte."""
    document = json.dumps({**(facts or {}), ARRAYS: sorted(arrays)}, sort_keys=True)
    with zipfile.ZipFile(stream, "w") as file:
        for name, array in {FACTS: np.array(document), **arrays}.items():
            if array.dtype.hasobject:
                raise ValueError(f"{name!r} holds Python objects")
            header = np.lib.format.header_data_from_array_1_0(array)
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                member.write(np.ascontiguousarray(array.T if header["fortran_order"] else array).reshape(-1).view(np.uint8).data)


def read_entry(opened: Callable[[], IO[bytes]], name: object, only_facts: bool = False) -> Entry:
    """Read (arrays, facts) of an entry, or no arrays.

    Args:
        opened: opens the entry; may be called several times.
        name: of the entry, for messages.

    Raises:
        Damaged: it is not as it was written.
        OSError: it cannot be read.
    """
    try:
        if only_facts and (known := _facts_of_whole(opened)) is not None:
            return {}, known
        arrays = _arrays(opened, name, only_facts)
        facts = json.loads(str(arrays.pop(FACTS)))
        if only_facts or sorted(arrays) == facts.pop(ARRAYS, sorted(arrays)):
            facts.pop(ARRAYS, None)
            return arrays, facts
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        raise Damaged(repr(error)) from error
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, KeyError, EOFError) as error:
        raise Damaged(repr(error)) from error
    raise Damaged("arrays are missing")


def facts_at_the_beginning(beginning: bytes) -> dict[str, Any] | None:
    """The facts of an entry by its first :data:`BEGINNING` bytes; None if these do not hold them whole and undamaged."""
    try:
        signature, crc, name, extra = struct.unpack("<4s10xI8xHH", beginning[:30])
        first = 30 + name + extra
        size = struct.unpack("<4xQ", beginning[30 + name : 30 + name + 12])[0]  # in the zip64 field, which every member has
        content = beginning[first : first + size]
        if signature != b"PK\x03\x04" or beginning[30 : 30 + name] != f"{FACTS}.npy".encode() or zlib.crc32(content) != crc:
            return None
        facts = json.loads(str(_parsed(np.frombuffer(content, np.uint8), f"{FACTS}.npy")))
    except (struct.error, ValueError, SystemError):
        return None
    facts.pop(ARRAYS, None)
    return facts


def _facts_of_whole(opened: Callable[[], IO[bytes]]) -> dict[str, Any] | None:
    """The facts of an entry, read in two short pieces; None if its length is not what its end says."""
    with opened() as stream:
        beginning = stream.read(SHORT)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(-min(size, END.size), os.SEEK_END)
        end = stream.read(END.size)
    if len(end) < END.size or END.unpack(end)[0] != b"PK\x05\x06" or sum(END.unpack(end)[1:]) + END.size != size:
        return None  # cut short, or over 4 GiB
    return facts_at_the_beginning(beginning)


def _arrays(opened: Callable[[], IO[bytes]], name: object, only_facts: bool) -> dict[str, np.ndarray]:
    """Read the arrays of an entry, the document among them.

    NumPy parses an array's header as Python, and Python 3.11 may raise a SystemError when two threads parse at once (gh-106905). The entry
    itself is fine, so it is read again.
    """
    for _ in range(TRIES):
        with suppress(SystemError), opened() as stream, zipfile.ZipFile(stream) as file:
            size = stream.seek(0, os.SEEK_END)
            members = [file.getinfo(f"{FACTS}.npy")] if only_facts else file.infolist()
            return {member.filename.removesuffix(".npy"): _array(stream, member, size) for member in members}
    raise CacheError(f"the cache entry {name} cannot be read: NumPy could not parse it in {TRIES} tries")


def _array(stream: IO[bytes], member: zipfile.ZipInfo, size: int) -> np.ndarray:
    """Read one array of an entry of ``size`` bytes; nothing in it is looked at before its checksum holds.

    Raises:
        BadZipFile: the member's place, size or checksum is wrong.
        ValueError: it is no array of numbers.
    """
    stream.seek(member.header_offset)
    lengths = struct.unpack("<26xHH", stream.read(30))  # of the name and of the extra field that precede the content
    stream.seek(sum(lengths), os.SEEK_CUR)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
        raise zipfile.BadZipFile(f"{member.filename} is not stored as it was written")
    content = np.empty(member.file_size, np.uint8)
    if stream.readinto(content.data) < len(content) or zlib.crc32(content.data) != member.CRC:  # type: ignore[attr-defined]
        raise zipfile.BadZipFile(f"bad CRC-32 of {member.filename}")
    return _parsed(content, member.filename)


def _parsed(content: np.ndarray, name: str) -> np.ndarray:
    """Turn the bytes of a ``.npy`` file into its array, without a copy.

    Raises:
        ValueError: it is no array of numbers.
    """
    length = 10 + int.from_bytes(content[8:10].tobytes(), "little")
    shape, fortran_order, dtype = _header(content[:length].tobytes())
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    return content[length:].view(dtype).reshape(shape, order="F" if fortran_order else "C")


@lru_cache(maxsize=4096)
def _header(beginning: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Parse a ``.npy`` header; most entries of a kind have the same, and parsing takes longer than reading."""
    stream = io.BytesIO(beginning)
    np.lib.format.read_magic(stream)
    return np.lib.format.read_array_header_1_0(stream)
