"""Read AVE-format annotations: ``Category&VideoID&Quality&StartTime&EndTime``, one audio-visual event per line (Tian et al. 2018).

A directory holds ``Annotations.txt`` (with or without a header line: both are in circulation, and a header taken for a row shifts every
published order file by one), the splits as ``trainSet.txt``, ``valSet.txt``, ``testSet.txt`` in the same line format or as
``train_order.h5`` ... (row numbers from 0; if both exist they must agree), and optionally ``categories.txt`` with the class order; without
it, classes are in the order of first appearance, as in the published label files. A row is an annotation line: index i of every published
feature and label file is row i, the i-th line without the header.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.ave_arrays import label_report, negative_problems, read_orders
from pipeline.datasets.base import DATASETS, DatasetSettings, Event, Index, Row, Split, count_lines, find_files, read_class_names, unsafe_id
from pipeline.errors import InputProblems
from pipeline.text import text_lines

SPLIT_FILES: dict[str, Split] = {"trainSet.txt": "train", "valSet.txt": "val", "testSet.txt": "test"}
NAMED = 100  # most names in a line on clips with several rows, or on leaks: AVE has 45


@dataclass(frozen=True)
class Line:
    """One annotation line: class, clip id, [start, end) in seconds; its line number does not count for equality."""

    category: str
    clip: str
    start: float
    end: float
    number: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.category}&{self.clip}"


def parse_line(text: str, seconds: float, number: int = 0) -> Line:
    """Parse one line; ``seconds`` is the length of a clip.

    Raises:
        ValueError: the line is malformed; the caller adds file and line number.
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
    return Line(category, clip, start, end, number)


def read_lines(path: Path, seconds: float, problems: list[str]) -> list[Line]:
    """Read all lines of a file; malformed ones go to ``problems`` with file and line."""
    if not path.is_file():
        problems.append(f"{path}: no such file")
        return []
    lines = []
    for number, text in enumerate(text_lines(path, problems), 1):
        is_header = number == 1 and [part.strip() for part in text.split("&")[-2:]] == ["StartTime", "EndTime"]
        if not text.strip() or is_header:
            continue
        try:
            lines.append(parse_line(text, seconds, number))
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    return lines


def read_classes(directory: Path, lines: list[Line], problems: list[str]) -> list[str]:
    """Read class names in label order; a category missing from ``categories.txt`` is a problem."""
    appearing = list(dict.fromkeys(line.category for line in lines))
    path = directory / "categories.txt"
    if not path.is_file():
        return appearing
    classes = read_class_names(path, problems)
    problems += [f"{path}: the class {name!r} of Annotations.txt is not in it" for name in appearing if name not in classes]
    return classes


@DATASETS.register("ave")
def read_ave(settings: DatasetSettings) -> Index:
    """Read the rows of ``Annotations.txt`` in order, each with its split, then ``settings.negatives`` clips without an event.

    Raises:
        InputProblems: every malformed or unmatched line, and every unusable order file, at once.
    """
    directory, seconds = settings.annotations, settings.segments * settings.segment_seconds
    problems: list[str] = []
    lines = read_lines(directory / "Annotations.txt", seconds, problems)
    if problems and not lines:  # without them, every line of the other files would be a problem
        raise InputProblems(str(directory), problems)
    classes = read_classes(directory, lines, problems)
    splits = match_splits(directory, lines, problems) if settings.split == "match" else official_splits(directory, lines, seconds, problems)
    problems += negative_problems(directory, settings.negatives, len(classes))
    if problems:
        raise InputProblems(str(directory), problems)
    files, findings = find_files(settings.clips, (line.clip for line in lines))
    rows = [
        Row(
            clip=line.clip,
            split=split,
            file=files[line.clip],
            events=(Event("av", line.category, line.start, line.end),) if line.end > line.start else (),
            labels=(line.category,),
        )
        for line, split in zip(lines, splits, strict=True)
    ]
    report = findings + health(lines, rows, settings.has_clips)
    report += label_report(directory, rows, classes, settings)
    rows += [Row(f"negative-{number:03d}", "negative", None) for number in range(settings.negatives)]
    return Index(rows, classes, report)


def official_splits(directory: Path, lines: list[Line], seconds: float, problems: list[str]) -> list[Split]:
    """Split of every row, from the split texts, the order files, or both, which must then agree row by row."""
    orders = read_orders(directory, "", len(lines), problems)
    splits: list[Split] = ["none"] * len(lines)
    for split, order in orders.items():
        for row in order:
            splits[row] = split
    if orders and not any((directory / name).is_file() for name in SPLIT_FILES):
        return splits
    by_line: dict[Line, Split] = {}
    known = set(lines)
    for name, split in SPLIT_FILES.items():
        path = directory / name
        of_split = read_lines(path, seconds, problems)
        for line in of_split:
            if by_line.setdefault(line, split) != split:
                problems.append(f"{path}:{line.number}: {line} is in {by_line[line]} as well")
            if line not in known:
                problems.append(f"{path}:{line.number}: {split}: {line} is not in Annotations.txt with that span")
        if split in orders and [lines[row] for row in orders[split]] != of_split:
            problems.append(_first_difference(path, of_split, split, [lines[row] for row in orders[split]]))
    return [by_line.get(line, "none") for line in lines]


def _first_difference(path: Path, text: list[Line], split: Split, ordered: list[Line]) -> str:
    pairs = enumerate(zip(text, ordered, strict=False))
    place = next((position for position, (one, other) in pairs if one != other), min(len(text), len(ordered)))
    return (
        f"{path}: {len(text)} rows, {split}_order.h5 {len(ordered)}, the first difference at entry {place}; "
        "are Annotations.txt, split texts and order files of one version?"
    )


def match_splits(directory: Path, lines: list[Line], problems: list[str]) -> list[Split]:
    """Splits for cross-modality localization, ``*_order_match.h5``: in test every event is shorter than its clip."""
    orders = read_orders(directory, "_match", len(lines), problems)
    if not orders:
        problems.append(f"{directory}: dataset.split: match needs train_order_match.h5, val_order_match.h5, test_order_match.h5")
    splits: list[Split] = ["none"] * len(lines)
    for split, order in orders.items():
        for row in order:
            splits[row] = split
    return splits


def health(lines: list[Line], rows: list[Row], has_clips: bool = True) -> list[str]:
    """List defects that do not stop a run, with their rows (from 0) and lines; none is repaired silently."""
    places: dict[str, list[int]] = defaultdict(list)
    for position, line in enumerate(lines):
        places[line.clip].append(position)
    name = [f"{line.clip} row {position}, line {line.number}" for position, line in enumerate(lines)]
    several = {clip: where for clip, where in places.items() if len(where) > 1}
    report = count_lines("rows in no split", [name[i] for i, row in enumerate(rows) if row.split == "none"])
    report += count_lines("rows without an event (start = end)", [name[i] for i, line in enumerate(lines) if line.start == line.end])
    report += count_lines(
        "clips with several rows",
        [f"{clip} rows {' '.join(map(str, where))}" for clip, where in sorted(several.items())],
        NAMED,
    )
    first: dict[Line, int] = {}
    repeated = {i for i, line in enumerate(lines) if first.setdefault(line, i) != i}
    twice = [name[i] for where in several.values() for i in where if i in repeated]
    report += count_lines("lines that repeat an earlier one", twice, NAMED)
    trained = [where for where in several.values() if any(rows[i].split == "train" for i in where)]
    for split in ("val", "test"):
        leaked = [i for where in trained for i in where if rows[i].split == split]
        report += count_lines(f"{split} rows whose clip is in train too", [name[i] for i in sorted(leaked)], NAMED)
    if has_clips:
        report += count_lines("rows without a file", [row.clip for row in rows if row.file is None])
    return report
