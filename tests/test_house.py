"""The house rules that a program can hold: short files, nothing written twice, docstrings that open with one short line, a short README."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

LONGEST_FILE = 300  # lines
LONGEST_SUMMARY = 20  # words
REPEATED = 10  # lines, blank ones not counted
CODE = [path for room in ("pipeline", "stages") for path in sorted((REPOSITORY / room).rglob("*.py"))]


def test_every_file_can_be_read_in_one_sitting():
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_ten_lines_stand_twice():
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in CODE:
        numbered = [(number, line.strip()) for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)]
        lines = [(number, line) for number, line in numbered if line]
        for first in range(len(lines) - REPEATED + 1):
            block = lines[first : first + REPEATED]
            places[tuple(line for _, line in block)].append(f"{path.relative_to(REPOSITORY)}:{block[0][0]}")
    assert [where for where in places.values() if len(where) > 1] == []


def test_a_docstring_opens_with_one_short_line():
    long = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
                words = text.split("\n\n")[0].split()
                if len(words) > LONGEST_SUMMARY:
                    long.append(f"{path.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 1)}: {len(words)} words: {' '.join(words)}")
    assert not long, "\n".join(long)
