"""Faults of the disk as sentences: what cannot be written, where, what is free there, and what to do.

Libraries wrap the system's error in their own (torch, safetensors, Arrow, HDF5, FFmpeg, NumPy), some with nothing left of it but words.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_NUMBER = re.compile(r"\((?:os )?error (\d+)\)|\berrno = (\d+)|Errno (\d+)\]")  # Rust's words, HDF5's, Python's
_SHORT_WRITE = re.compile(r"inline_container\.cc.*(?:unexpected pos|PytorchStreamWriter)|\d+ requested and \d+ written", re.DOTALL)


def disk_fault(error: BaseException, *places: Path) -> str | None:
    """Put a full, write-protected or broken disk into one sentence; None where ``error`` is something else.

    Args:
        places: where the work writes, besides the working and the temporary directory: looked at where the error names no path.
    """
    for each in _chain(error):
        number = _errno(each)
        if number is None or number not in {*FULL, *FORBIDDEN, errno.EIO}:
            continue
        named = next((path for one in _chain(error) if (path := _path(one)) is not None), None)
        if number in FORBIDDEN:
            advice = "the file system is read-only" if number == errno.EROFS else "its owner and permissions do not allow it"
            return f"{named or 'a file'} cannot be read or written: {advice}; mend that, or choose another place" if named else None
        place = named or min((Path.cwd(), Path(tempfile.gettempdir()), *places), key=_free)
        if number == errno.EIO:
            return f"{place}: the disk reports an input/output error; what was finished is kept, look at the disk (`dmesg`)"
        reason = {errno.EDQUOT: "the quota of the disk is used up", errno.EFBIG: "the file would be larger than the system allows"}
        return (
            f"{place} cannot be written: {reason.get(number, 'the disk is full')} ({_size(_free(place))} free there);"
            " free some space and run again, what was finished is kept"
        )
    return None


def name_place(error: BaseException, place: str | os.PathLike[str]) -> None:
    """Put the path into an error of the disk that names none, as those of ``write`` do."""
    if isinstance(error, OSError) and error.errno in FULL | {errno.EIO} and error.filename is None:
        error.filename = os.fspath(place)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those it was raised from or while handling."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not isinstance(error, OSError | RuntimeError) and "safetensors" not in type(error).__module__:
        return None
    words = str(error)
    if match := _NUMBER.search(words):
        return int(next(group for group in match.groups() if group))
    return errno.ENOSPC if _SHORT_WRITE.search(words) else None


def _path(error: BaseException) -> Path | None:
    """The file of an error; of a copy, the one that was written."""
    names: list[Any] = [getattr(error, "filename2", None), getattr(error, "filename", None)]
    return next((Path(os.fsdecode(name)) for name in names if isinstance(name, str | bytes)), None)


def _free(place: Path) -> int:
    """Bytes free for this user at ``place``, which need not exist."""
    existing = next((each for each in (place, *place.absolute().parents) if each.exists()), Path("/"))
    return shutil.disk_usage(existing).free


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
