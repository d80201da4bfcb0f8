"""Read the user's text files, and write words for people.

Text files are UTF-8, with or without a byte order mark. Any other encoding is refused, because wrongly guessed letters could make two names
equal.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import InputProblems

_NUMBERED = re.compile(r"(\d{1,9})\.(jpe?g|png)", re.IGNORECASE)
_WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Read the text of a file, without its byte order mark and with line ends unchanged.

    Raises:
        InputProblems: the file is not UTF-8; with the first such line and what to do.
    """
    content = path.read_bytes()
    if content.startswith(_WIDE) or b"\0" in content:
        raise InputProblems(str(path), ["it is UTF-16 or not a text file; save it as UTF-8"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = content[: error.start].count(b"\n") + 1
        found = f"line {place}: the byte 0x{content[error.start]:02x} is not UTF-8 (Latin-1 or a Windows code page?)"
        raise InputProblems(str(path), [f"{found}; save the file as UTF-8"]) from None


def text_lines(path: Path, problems: list[str]) -> list[str]:
    """The lines of a file; if it cannot be read, the reason goes to ``problems`` and no lines are returned."""
    try:
        return read_text(path).splitlines()
    except InputProblems as error:
        problems += [f"{error.where}: {problem}" for problem in error.problems]
        return []


def printable(text: str) -> str:
    """Make a name printable: control characters, and bytes of a file's name that are not UTF-8, become codes."""
    return "".join(letter if letter.isprintable() else _code(letter) for letter in text)


def distinct_names(files: list[Path]) -> list[str]:
    """Name what is made of each file: by its stem, its full name if stems repeat, numbered if names repeat.

    Every name is valid below ``--out`` and can be typed: no leading dots, and "_" for unprintable or non-UTF-8 characters.
    """
    stems = Counter(_safe(path.stem, path) for path in files)
    names: list[str] = []
    for path in files:
        stem = _safe(path.stem, path)
        plain = name = stem if stems[stem] == 1 else _safe(path.name, path)
        number = 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def _safe(name: str, path: Path) -> str:
    """Make a safe name; "." or "..", the stem of "...mp4", would be ``--out`` itself or its parent."""
    visible = name.lstrip(".") or path.name.lstrip(".") or "film"
    return "".join(letter if letter.isprintable() else "_" for letter in visible)


def duration(seconds: float) -> str:
    """Format a length of time in at most two units: 8.4 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _code(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # Python's stand-in for a byte that does not decode
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def numbered(names: Iterable[str]) -> dict[int, str]:
    """The names of numbered pictures by place, 0 for the first; of two with one number the first counts."""
    found: dict[int, str] = {}
    for name in sorted(names):
        if match := _NUMBERED.fullmatch(name):
            found.setdefault(int(match[1]), name)
    first = 0 if 0 in found else 1
    return {number - first: found[number] for number in sorted(found)}
