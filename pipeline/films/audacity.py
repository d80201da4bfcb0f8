"""Read a label track that Audacity exported: start, end and label between tabs; the file is named like its film."""

from __future__ import annotations

from pathlib import Path

from pipeline.films.spans import Found, Span
from pipeline.text import text_lines


def read(path: Path, _: str | None = None) -> Found:
    """Read the track; a line that begins with a backslash holds frequencies of the label before it."""
    found = Found([path.stem])
    points = 0
    for number, line in enumerate(text_lines(path, found.problems), 1):
        if not line.strip() or line.startswith("\\"):
            continue
        start, *rest = line.split("\t")
        if len(rest) < 2:
            found.problems.append(f"{path}:{number}: {len(rest) + 1} fields between tabs instead of 3 (start, end, label)")
        elif start == rest[0]:
            points += 1
        else:
            found.spans.append(Span(f"{path}:{number}", path.stem, rest[1].strip(), start, rest[0]))
    if points:
        found.notes.append(f"{path}: {points} labels of a point in time, left out")
    return found
