"""Read hand-made and exported CSV files: a line that does not fit the header is refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.datasets.base import count_lines
from pipeline.text import read_text

OTHER_MARKS = ";\t|"  # between the fields, as spreadsheets write them where the comma is the decimal mark


def read_records(path: Path, columns: Sequence[str], problems: list[tuple[int, str]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and field by column of a CSV file with a header line; columns beyond ``columns`` are allowed.

    A line with another number of fields than the header is a problem, not a record: with a decimal comma ``0,5`` is two fields, and all
    later fields would shift to another column.

    Args:
        problems: receives (line number, problem).

    Raises:
        InputProblems: the file is not UTF-8.
    """
    with io.StringIO(read_text(path), newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader, [])
            if missing := [name for name in columns if name not in header]:
                other = next(
                    (f"; they are separated by {mark!r}, and commas are needed" for mark in OTHER_MARKS if mark in "".join(header[:1])), ""
                )
                problems.append((1, f"the columns {', '.join(missing)} are missing (needed: {', '.join(columns)}){other}"))
            problems += [
                (1, line) for line in count_lines("columns named twice", sorted({name for name in header if header.count(name) > 1}))
            ]
            if problems:
                return
            for record in reader:
                if len(record) == len(header):
                    yield reader.line_num, dict(zip(header, record, strict=True))
                elif record:
                    counts = f"{len(record)} columns instead of {len(header)} ({', '.join(header)})"
                    more = "; a decimal comma splits a number in two: write 0.5" if len(record) > len(header) else ""
                    problems.append((reader.line_num, counts + more))
        except csv.Error as error:
            problems.append((reader.line_num, f"not a line of a CSV file: {error}"))
