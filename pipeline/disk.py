"""Describe disk faults in a sentence: what cannot be written, where, how much is free there, and what to do.

Libraries (torch, safetensors, Arrow, HDF5, FFmpeg, NumPy) wrap the system's error in their own; some keep only its text.
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
_NUMBER = re.compile(r"\((?:os )?error (\d+)\)|\berrno = (\d+)|Errno (\d+)\]")  # as Rust, HDF5 and Python write it
_SHORT_WRITE = re.compile(r"inline_container\.cc.*(?:unexpected pos|PytorchStreamWriter)|\d+ requested and \d+ written", re.DOTALL)


def disk_fault(error: BaseException, *places: Path, needed: int = 0) -> str | None:
    """Describe a full, write-protected or broken disk in one sentence; None if ``error`` is something else.

    Args:
        places: directories written to besides the working and the temporary directory, considered if the error names no path.
        needed: bytes that were to be written; what is missing of them is said.
    """
    for each in _chain(error):
        number = _errno(each)
        if number is None or number not in {*FULL, *FORBIDDEN, errno.EIO}:
            continue
        named = next((path for one in _chain(error) if (path := _path(one)) is not None), None)
        if number in FORBIDDEN:
            advice = "the file system is read-only" if number == errno.EROFS else "its owner and permissions do not allow it"
            return f"{named or 'a file'} cannot be read or written: {advice}; change that, or choose another place" if named else None
        place = named or min((Path.cwd(), Path(tempfile.gettempdir()), *places), key=free_at)
        if number == errno.EIO:
            return f"{place}: the disk reports an input/output error; finished work is kept, check the disk (`dmesg`)"
        free = free_at(place)
        missing = f", {size_in_words(needed - free)} more are needed at once" if needed > free else ""
        reason = {errno.EDQUOT: "the quota of the disk is used up", errno.EFBIG: "the file would be larger than the system allows"}
        return (
            f"{place} cannot be written: {reason.get(number, 'the disk is full')} ({size_in_words(free)} free there{missing});"
            " free some space and run again, finished work is kept"
        )
    return None


def name_place(error: BaseException, place: str | os.PathLike[str]) -> None:
    """Add the path to a disk error without one, such as those of ``write``."""
    if isinstance(error, OSError) and error.errno in FULL | {errno.EIO} and error.filename is None:
        error.filename = os.fspath(place)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and those it was raised from or while handling."""
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
    """The file that an error names; for a copy, the target."""
    names: list[Any] = [getattr(error, "filename2", None), getattr(error, "filename", None)]
    return next((Path(os.fsdecode(name)) for name in names if isinstance(name, str | bytes)), None)


def free_at(place: Path) -> int:
    """Bytes free for this user at ``place``, which may not exist yet."""
    return shutil.disk_usage(existing(place)).free


def existing(place: Path) -> Path:
    """``place``, or the nearest directory above it that exists."""
    return next((each for each in (place, *place.absolute().parents) if each.exists()), Path("/"))


def size_in_words(count: float) -> str:
    """Format bytes in units of 1000, as the settings ending in ``_gb`` count: 171 GB, 3.2 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.3g} {unit}"
