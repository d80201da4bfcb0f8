"""Read hand-made and exported CSV files: a line that does not fit the header is refused."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.datasets.base import count_lines
from pipeline.text import read_text

OTHER_MARKS = ";\t|"  # between the fields, as spreadsheets write them where the comma is the decimal mark


def read_records(
    path: Path, columns: Sequence[str], problems: list[tuple[int, str]], spellings: Mapping[str, str] | None = None,
    optional: Sequence[str] = (),
) -> Iterator[tuple[int, dict[str, str]]]:  # fmt: skip
    """Yield line number and field by column of a CSV file with a header line; columns beyond ``columns`` are allowed.

    A line with another number of fields than the header is a problem, not a record: with a decimal comma ``0,5`` is two fields, and all
    later fields would shift to another column.

    Args:
        problems: receives (line number, problem).
        spellings: other names of columns.
        optional: columns that may be absent; a header that nearly names one is a problem.

    Raises:
        InputProblems: the file is not UTF-8.
    """
    with io.StringIO(read_text(path), newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = [(spellings or {}).get(name, name) for name in next(reader, [])]
            problems += [(1, problem) for problem in header_problems(header, columns, optional)]
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


def header_problems(header: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    """List what is wrong with the names of the columns."""
    found = []
    others = [name for name in header if name not in columns and name not in optional]
    near = {name: close[0] for name in (*columns, *optional) if (close := difflib.get_close_matches(name, others, n=1, cutoff=0.7))}
    if missing := [name for name in columns if name not in header]:
        mark = next((mark for mark in OTHER_MARKS if mark in "".join(header[:1])), None)
        other = f"; they are separated by {mark!r}, and commas are needed" if mark else ""
        meant = "".join(f"; did you mean {name} by {near[name]!r}?" for name in missing if name in near)
        found.append(f"the columns {', '.join(missing)} are missing (needed: {', '.join(columns)}){other}{meant}")
    found += [f"the column {near[name]!r} is unknown; did you mean {name}?" for name in optional if name in near and name not in header]
    return found + count_lines("columns named twice", sorted({name for name in header if header.count(name) > 1}))
