"""Cut what README.md and docs/ say of the measured numbers from the pages of docs/results/."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pipeline.marks import between, insert
from pipeline.results.lock import STATE, page_of
from pipeline.results.pages import WAYS
from pipeline.results.suites import SUITES
from pipeline.text import read_text

NOTHING = "–"
NOT_MADE = "not made yet"
SCORE = re.compile(r"\*\*([\d.]+)\*\*( ± [\d.]+)?")
# Columns of the matrix of docs/status.md: the suites that measure a method there, the first one counts.
WORLDS = {"demo world": ("demo-methods", "demo-parsing", "demo-dense", "demo-labels", "demo"), "realmix": ("realmix", "realmix-parsing")}
# Tables of docs/results.md: the suites with the same runs on two worlds, by the head of their column.
SHORT = (
    {"Demo world": "demo-methods", "realmix": "realmix"},
    {"Demo world": "demo-parsing", "realmix": "realmix-parsing"},
    {"Dense demo world": "demo-dense"},
    {"Demo world, labels of segments": "demo-labels"},
    {"realmix, five folds": "realmix-folds"},
)

Pages = Mapping[str, str]  # text by suite, of those that have a page


@dataclass(frozen=True)
class Line:
    """One run of a page's results.

    marks: words behind its name, such as ``(dense labels)``; score: as ``82.29 ± 1.19``, empty without one.
    """

    run: str
    marks: str
    method: str
    score: str


def read_pages(root: Path) -> dict[str, str]:
    """The text of every suite's page, in the order of SUITES; further suites behind."""
    known = [*SUITES, *sorted(path.stem for path in page_of("x", root).parent.glob("*.md") if path.stem not in SUITES)]
    return {suite: read_text(page_of(suite, root)) for suite in known if page_of(suite, root).is_file()}


def results_of(page: str) -> list[Line]:
    """The runs of a page's results table."""
    rows = [_cells(line) for line in between(page, "results", "a page of docs/results")[1].splitlines() if line.startswith("|")]
    lines = []
    for row in rows[2:]:
        cells = dict(zip(rows[0], row, strict=True))
        run, _, marks = re.sub(r" \[[\d, ]+\]$", "", cells["Run"]).partition(" ")
        score = SCORE.match(cells.get("Test, mean ± std (seeds)", ""))
        lines.append(Line(run, marks, cells["Method"], f"{score[1]}{score[2] or ''}" if score else ""))
    return lines


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def demo_table(pages: Pages, _: str) -> str:
    """The results of the demo, for the README."""
    if "demo" not in pages:
        return f"{NOT_MADE.capitalize()}: `python -m pipeline results demo` makes it.\n"
    return between(pages["demo"], "results", "demo.md")[1] + state_of(pages["demo"])


def state_of(page: str) -> str:
    """The mark of a page's age; empty if it is of today."""
    found = STATE.search(page)
    return "".join(found[0].splitlines(keepends=True)[1:-1]) if found else ""


def matrix(pages: Pages, before: str) -> str:
    """The matrix of methods with the columns of WORLDS filled in; its other columns are written by hand."""
    heads, rule, *rows = before.splitlines()
    names = _cells(heads)
    filled = []
    for row in rows:
        cells = _cells(row)
        for world, suites in WORLDS.items():
            cells[names.index(world)] = measured(cells[0].strip("`"), [pages[suite] for suite in suites if suite in pages])
        filled.append(f"| {' | '.join(cells)} |")
    return "\n".join([heads, rule, *filled]) + "\n"


def measured(method: str, pages: list[str]) -> str:
    """A method's score on the first page that has it: its namesake's, else its first run's, named."""
    for page in pages:
        lines = [line for line in results_of(page) if line.method == method and line.score]
        for line in sorted(lines, key=lambda line: line.run != method):
            return line.score + ("" if line.run == method else f" (`{line.run}`)")
    return NOTHING


def short(pages: Pages, _: str) -> str:
    """The headline of every run, suites with the same runs side by side."""
    tables = []
    for columns in SHORT:
        there = {head: suite for head, suite in columns.items() if suite in pages}
        by_suite = {suite: {line.run: line for line in results_of(pages[suite])} for suite in there.values()}
        runs = {run: line for lines in by_suite.values() for run, line in lines.items()}
        if not runs:
            continue
        heads = ["Run", "Method", *(f"[{head}](results/{suite}.md)" for head, suite in there.items())]
        rows = [[" ".join(filter(None, (run, line.marks))), line.method] for run, line in runs.items()]
        for row, run in zip(rows, runs, strict=True):
            row += [by_suite[suite][run].score or NOTHING if run in by_suite[suite] else NOTHING for suite in there.values()]
        tables.append("".join(f"| {' | '.join(cells)} |\n" for cells in (heads, ["---"] * len(heads), *rows)))
    return "\n".join(tables) or f"{NOT_MADE.capitalize()}.\n"


def labels(pages: Pages, _: str) -> str:
    """How right the labels of segments are on realmix: of the audible seconds of its test clips."""
    if "realmix-parsing" not in pages:
        return f"{NOT_MADE.capitalize()}.\n"
    section = pages["realmix-parsing"].partition("\n## Labels of segments\n\n")[2].splitlines()
    heads, _rule, *rows = [_cells(line) for line in takewhile(lambda line: line.startswith("|"), section)]
    lines: dict[str, list[str]] = {}
    for row in rows:
        cells = dict(zip(heads, row, strict=True))
        if cells["Split"] == "test":
            name = f"`{cells['Label set']}`" if cells["Labels"] == WAYS["labels"] else cells["Labels"]
            lines[name] = [name, *(cells[f"Audio {rate}"] for rate in ("precision", "recall", "F1"))]
    trivial = lines.pop(WAYS["clip_label"])
    table = [["Labels", "Precision", "Recall", "F1"], ["---"] * 4, *lines.values(), trivial]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def index(pages: Pages, _: str) -> str:
    """One line for each suite: its page, commit, wall time and age."""
    lines = ["| Suite | Page | Runs | Commit | Wall time | Code and settings |", "|---|---|---|---|---|---|"]
    for suite in dict.fromkeys([*SUITES, *pages]):
        if suite not in pages:
            lines.append(f"| `{suite}` | {NOT_MADE} | | | | |")
            continue
        page = pages[suite]
        facts = dict(_cells(line)[:2] for line in page.splitlines() if re.match(r"\| (Commit|Wall time) \|", line))
        title = page.splitlines()[0].removeprefix("# ")
        age = "older" if state_of(page) else "today's"
        cells = [f"`{suite}`", f"[{title}](results/{suite}.md)", str(len(results_of(page))), facts["Commit"], facts["Wall time"], age]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


CUTS: tuple[tuple[str, str, Callable[[Pages, str], str]], ...] = (
    ("README.md", "demo", demo_table),
    ("docs/results.md", "pages", index),
    ("docs/results.md", "short", short),
    ("docs/labels.md", "labels", labels),
    ("docs/status.md", "matrix", matrix),
)


def untrue(root: Path, pages: Pages) -> list[str]:
    """The marked places that differ from what the pages say, as ``FILE (MARK)``."""
    found = []
    for file, mark, cut in CUTS:
        inside = between(read_text(root / file), mark, file)[1]
        if cut(pages, inside) != inside:
            found.append(f"{file} ({mark})")
    return found


def write_cuts(root: Path) -> None:
    """Write every marked place that differs from what the pages say."""
    pages = read_pages(root)
    for file, mark, cut in CUTS:
        inside = between(read_text(root / file), mark, file)[1]
        if (text := cut(pages, inside)) != inside:
            insert(root / file, mark, text)
