"""Write docs/results/ from finished clones, mark pages that are not of today, and check that none says anything untrue."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from filelock import FileLock

from pipeline import config
from pipeline.closure import ROOT
from pipeline.git import commit_of
from pipeline.publish import replacing, write_text
from pipeline.results.cuts import read_pages, untrue, write_cuts
from pipeline.results.lock import Entry, changes, marked, page_digest, page_of, read_lock, write_lock
from pipeline.results.pages import page
from pipeline.results.suites import code_digest, params_digest
from pipeline.stage import LOCKS
from pipeline.text import read_text

REPORT = Path("data/results/report")
FIGURES = {"demo": ("runs", "timeline", "attention")}  # pictures of a suite's report that docs/ shows, as docs/SUITE-NAME.png
BENCHMARKS, PAPERS = "benchmarks/RESULTS.md", "pipeline/report/published.yaml"
QUOTING = ("README.md", "docs/results.md", "docs/status.md", "docs/labels.md")  # quote pages; the other files of docs/ only BENCHMARKS
REFERENCES = ("docs/settings.md", "docs/faults.md")  # written by commands, of settings and tests
SCORE = re.compile(r"\d+\.\d+ ± \d+\.\d+|(?:[+-]\d+\.\d+ )?\[[+-]\d+\.\d+, [+-]\d+\.\d+\]")
NUMBER = re.compile(r"(?<![\d.,\w-])\d[\d,]*\.\d+(?!\.?\d)")
NO_PROSE = re.compile(r"```.*?```|<!-- (\w+) -->.*?<!-- /\1 -->|`[^`]*`|\]\([^)]*\)", re.DOTALL)  # code, what commands wrote, links
ADVICE = "`python -m pipeline results --mark` puts it right"


def take(suite: str, clone: Path, root: Path = ROOT) -> Path:
    """Write the page, the lock's entry and the figures of a suite from its finished clone; returns the page's path."""
    params, text, path = config.load(clone / "params.yaml"), page(suite, clone), page_of(suite, root)
    entry = Entry(commit_of(clone), code_digest(params, clone), params_digest(clone / "params.yaml"), page_digest(text))
    with only_writer(root):
        write_lock(root, {**read_lock(root), suite: entry})
        write_text(path, text)
        for name in FIGURES.get(suite, ()):
            with replacing(root / "docs" / f"{suite}-{name}.png") as partial:
                shutil.copyfile(clone / REPORT / f"{name}.png", partial)
        _mark(root)
    return path


def mark(root: Path = ROOT) -> None:
    """Write into every page whether it is of today, and cut again what other files have from the pages."""
    with only_writer(root):
        _mark(root)


@contextmanager
def only_writer(root: Path) -> Iterator[None]:
    """Wait for other calls to have written; several may run suites side by side."""
    (root / LOCKS).mkdir(exist_ok=True)
    with FileLock(root / LOCKS / "docs-results.lock"):
        yield


def _mark(root: Path) -> None:
    entries = read_lock(root)
    write_lock(root, entries)
    for suite, text in read_pages(root).items():
        if suite in entries and (now := marked(text, suite, changes(suite, entries[suite], root))) != text:
            write_text(page_of(suite, root), now)
    write_cuts(root)


@dataclass(frozen=True)
class Found:
    """What a check found.

    ages: a sentence for each suite; problems: sentences about what is untrue, each with what to do.
    """

    ages: list[str]
    problems: list[str]


def check(root: Path = ROOT) -> Found:
    """Compare pages, lock, marks and cuts with one another and with today's code and settings; nothing is run or written."""
    entries, pages = read_lock(root), read_pages(root)
    ages, problems, edited = [], [], False
    for suite in dict.fromkeys([*entries, *pages]):
        path = page_of(suite).as_posix()
        if suite not in pages or suite not in entries:
            missing = f"results.lock has no entry for {path}" if suite in pages else f"results.lock names {path}, which is missing"
            problems.append(f"{missing}; `python -m pipeline results {suite}` makes it")
            continue
        text, changed = pages[suite], changes(suite, entries[suite], root)
        ages.append(f"{suite}: {', and '.join(changed) or 'of today'} (commit {entries[suite].commit[:12]})")
        if page_digest(text) != entries[suite].page:
            edited = True
            problems.append(f"{path} was edited by hand; `python -m pipeline results {suite}` writes it again, git brings it back")
        elif marked(text, suite, changed) != text:
            problems.append(f"{path}: the mark of its age in its head is untrue; {ADVICE}")
    if not edited:  # else it may not be readable
        problems += [f"{place} differs from the pages that it is cut from; {ADVICE}" for place in untrue(root, pages)]
    problems += strays(root, pages)
    return Found(ages, problems)


def strays(root: Path, pages: Mapping[str, str]) -> Iterator[str]:
    """Sentences on numbers in README.md and docs/ that stand neither on a page nor among the benchmarks.

    Means with their ±, and intervals, are looked for as they are; other numbers with a decimal point only in prose, where they may be
    rounded. Of a page such a number comes only in the files of :data:`QUOTING`.
    """
    measured, on_pages = read_text(root / BENCHMARKS).replace("*", ""), "\n".join(pages.values()).replace("*", "")
    benchmarks = rounded(NUMBER.findall(measured)) | rounded(NUMBER.findall(read_text(root / PAPERS)))
    either = benchmarks | rounded(NUMBER.findall(on_pages))
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        name, text = path.relative_to(root).as_posix(), read_text(path).replace("*", "")
        if name in REFERENCES:
            continue
        known, places = (either, f"on a page of docs/results nor in {BENCHMARKS}") if name in QUOTING else (benchmarks, f"in {BENCHMARKS}")
        prose = NUMBER.findall(NO_PROSE.sub(" ", SCORE.sub(" ", text)))
        found = [number for number in SCORE.findall(text) if number not in measured and number not in on_pages]
        found += [number for number in prose if number.replace(",", "") not in known]
        for number in dict.fromkeys(found):
            yield f"{name}: {number} {'stands neither' if name in QUOTING else 'does not stand'} {places}"


def rounded(numbers: Iterable[str]) -> set[str]:
    """Numbers without commas as they are and as they round to fewer digits, down to one behind the point."""
    known = set()
    for number in {number.replace(",", "") for number in numbers}:
        digits = len(number.partition(".")[2])
        known |= {number, *(str(round(Decimal(number), kept)) for kept in range(1, digits))}
    return known
