"""Format a table as Markdown or as LaTeX (booktabs)."""

from __future__ import annotations

import re

from pipeline.report.tables import Table

SCORE = re.compile(r"^(\d[\d.]*)( ± [\d.]+)?( \(\d+\))$")  # mean, std, seeds
LATEX = str.maketrans({
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "–": "--", '"': "''",
})  # fmt: skip


def markdown(table: Table) -> str:
    """A GitHub table with mean scores in bold and the notes below."""
    if not table.heads:
        return ""
    lines = [_line(table.heads), "|" + "---|" * len(table.heads)]
    lines += [
        _line([SCORE.sub(lambda score: f"**{score[1]}**{score[2] or ''}{score[3]}", cell) for cell in cells]) for cells in table.lines
    ]
    notes = [f"[{number}] {_escape(note)}  " for number, note in enumerate(table.notes, start=1)]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    """Escape what would end the cell or be read as an HTML tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def latex(table: Table) -> str:
    """A ``tabular`` for a paper that loads booktabs, with its notes as small print below.

    The first three columns (four with the task) hold words and are aligned left.
    """
    if not table.heads:
        return "% no runs\n"
    words = 4 if "Task" in table.heads else 3
    columns = "l" * words + "r" * (len(table.heads) - words)
    lines = [" & ".join(cell.translate(LATEX) for cell in cells) + r" \\" for cells in (table.heads, *table.lines)]
    notes = [rf"\par {{\footnotesize [{number}] {note.translate(LATEX)}}}" for number, note in enumerate(table.notes, start=1)]
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*body, *notes]) + "\n"
