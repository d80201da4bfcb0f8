"""AVE-format annotations: ``Category&VideoID&Quality&StartTime&EndTime``, one audio-visual event a line (Tian et al. 2018).

A directory holds ``Annotations.txt`` (with or without a header line: both are in circulation, and a header taken for a row shifts every
published order file by one), ``trainSet.txt``, ``valSet.txt``, ``testSet.txt`` in the same line format, and, where there is one,
``categories.txt`` with the class order; else classes stand in the order of first appearance, as the published label files do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.base import DATASETS, DatasetSettings, Event, Index, Row, Split, count_lines, unsafe_id
from pipeline.datasets.files import match_files
from pipeline.errors import InputProblems

SPLIT_FILES: dict[str, Split] = {"trainSet.txt": "train", "valSet.txt": "val", "testSet.txt": "test"}


@dataclass(frozen=True)
class Line:
    """One annotation line: class, clip id, [start, end) in seconds."""

    category: str
    clip: str
    start: float
    end: float


def parse_line(text: str, seconds: float) -> Line:
    """Parse one line; ``seconds`` is the length of a clip.

    Raises:
        ValueError: with the reason, for the caller to put file and line number before it.
    """
    parts = text.split("&")
    if len(parts) != 5:
        raise ValueError(f"{len(parts)} columns instead of 5 (Category&VideoID&Quality&StartTime&EndTime)")
    category, clip, _quality, start_text, end_text = (part.strip() for part in parts)
    if problem := unsafe_id(clip):
        raise ValueError(problem)
    if not category:
        raise ValueError("the category is empty")
    try:
        start, end = float(start_text), float(end_text)
    except ValueError:
        raise ValueError(f"start {start_text!r} or end {end_text!r} is not a number") from None
    if not 0 <= start <= end <= seconds:  # also refuses NaN
        raise ValueError(f"the span {start:g}-{end:g} s does not lie in 0-{seconds:g} s with start before end")
    return Line(category, clip, start, end)


def read_lines(path: Path, seconds: float, problems: list[str]) -> list[Line]:
    """All lines of a file; what is wrong goes to ``problems`` with file and line."""
    if not path.is_file():
        problems.append(f"{path}: no such file")
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        is_header = number == 1 and text.split("&")[-2:] == ["StartTime", "EndTime"]
        if not text.strip() or is_header:
            continue
        try:
            lines.append(parse_line(text, seconds))
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    return lines


def read_classes(directory: Path, lines: list[Line], problems: list[str]) -> list[str]:
    """Class names in label order; a category that ``categories.txt`` does not know is a problem."""
    appearing = list(dict.fromkeys(line.category for line in lines))
    path = directory / "categories.txt"
    if not path.is_file():
        return appearing
    classes = [name.strip() for name in path.read_text(encoding="utf-8").splitlines() if name.strip()]
    problems += [f"{path}: the class {name!r} of Annotations.txt is not in it" for name in appearing if name not in classes]
    return classes


@DATASETS.register("ave")
def read_ave(settings: DatasetSettings) -> Index:
    """Rows of ``Annotations.txt`` in its order, each with the split whose file holds the same line.

    Raises:
        InputProblems: every malformed or unmatched line at once.
    """
    directory, seconds = settings.annotations, settings.segments * settings.segment_seconds
    problems: list[str] = []
    lines = read_lines(directory / "Annotations.txt", seconds, problems)
    classes = read_classes(directory, lines, problems)
    splits: dict[Line, Split] = {}
    for name, split in SPLIT_FILES.items():
        for line in read_lines(directory / name, seconds, problems):
            if splits.setdefault(line, split) != split:
                problems.append(f"{directory / name}: {line.category}&{line.clip} stands in {splits[line]} as well")
    known = set(lines)
    problems += [f"{split}: {line.category}&{line.clip} is not in Annotations.txt" for line, split in splits.items() if line not in known]
    if problems:
        raise InputProblems(str(directory), problems)
    found = match_files(settings.clips, (line.clip for line in lines))
    rows = [
        Row(
            clip=line.clip,
            split=splits.get(line, "none"),
            file=found.files[line.clip],
            events=(Event("av", line.category, line.start, line.end),) if line.end > line.start else (),
        )
        for line in lines
    ]
    return Index(rows, classes, health(lines, rows) + [line for title, names in found.findings() for line in count_lines(title, names)])


def health(lines: list[Line], rows: list[Row]) -> list[str]:
    """Defects that do not stop a run but must be seen: they are counted and named, never mended silently."""
    counts = Counter(row.clip for row in rows)
    by_split: dict[str, set[str]] = {}
    for row in rows:
        by_split.setdefault(row.split, set()).add(row.clip)
    report = count_lines("rows in no split", [row.clip for row in rows if row.split == "none"])
    report += count_lines("rows without an event (start = end)", [line.clip for line in lines if line.start == line.end])
    report += count_lines("clips with several rows", sorted(clip for clip, count in counts.items() if count > 1))
    for other in ("val", "test"):
        shared = by_split.get("train", set()) & by_split.get(other, set())
        report += count_lines(f"clips in both train and {other}", sorted(shared))
    report += count_lines("rows without a file", [row.clip for row in rows if row.file is None])
    return report
