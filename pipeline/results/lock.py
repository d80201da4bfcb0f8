"""``docs/results/results.lock``: what each page was made of, to tell old numbers, and pages edited by hand, from today's."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import config
from pipeline.closure import ROOT
from pipeline.errors import InputProblems
from pipeline.publish import write_text
from pipeline.results.suites import code_digest, params_digest
from pipeline.yaml_files import read_yaml

PAGES = Path("docs/results")
LOCK = PAGES / "results.lock"
HEAD = "# What each page here was made of. Written by `python -m pipeline results`, which also compares it: --check. Do not edit.\n"
STATE = re.compile(r"<!-- state -->\n.*?<!-- /state -->\n", re.DOTALL)
CODE = "code that these numbers depend on has changed since"
PARAMS = "the suite's settings have changed since"


@dataclass(frozen=True)
class Entry:
    """What a suite's page was made of.

    commit: of the code; page: sha256 of the page without the mark of its age; code, params: see :mod:`pipeline.results.suites`.
    """

    commit: str
    code: str
    params: str
    page: str


def read_lock(root: Path) -> dict[str, Entry]:
    """The entries by suite; {} without a lock.

    Raises:
        InputProblems: it is not as this module writes it.
    """
    path = root / LOCK
    if not path.is_file():
        return {}
    try:
        return {suite: Entry(**entry) for suite, entry in (read_yaml(path) or {}).items()}
    except (ValueError, TypeError, AttributeError) as error:
        advice = "after a merge keep the entries of both sides, each once; git brings back an older one"
        raise InputProblems(str(LOCK), [f"it cannot be read: {error}; {advice}"]) from None


def write_lock(root: Path, entries: dict[str, Entry]) -> None:
    lines = [f"{suite}:\n" + "".join(f"  {key}: {value!r}\n" for key, value in asdict(entries[suite]).items()) for suite in sorted(entries)]
    (root / PAGES).mkdir(parents=True, exist_ok=True)
    write_text(root / LOCK, HEAD + "".join(lines))


def page_of(suite: str, root: Path = Path()) -> Path:
    return root / PAGES / f"{suite}.md"


def page_digest(text: str) -> str:
    """Hash a page without the mark of its age, which a command may write later."""
    return hashlib.sha256(STATE.sub("", text).encode()).hexdigest()


def changes(suite: str, entry: Entry, root: Path = ROOT) -> list[str]:
    """What today's numbers of a suite depend on and the page's do not: its code, its settings, or both."""
    path = root / "suites" / f"{suite}.yaml"
    if not path.is_file():
        return [PARAMS]
    found = []
    if code_digest(config.load(path), root) != entry.code:
        found.append(CODE)
    if params_digest(path) != entry.params:
        found.append(PARAMS)
    return found


def marked(text: str, suite: str, changed: list[str]) -> str:
    """A page with the mark of its age in its head: a sentence if anything has changed, else nothing."""
    again = f"`python -m pipeline results {suite}` makes them again."
    line = f"> **Not of today:** {', and '.join(changed)}; {again}\n" if changed else ""
    return STATE.sub(lambda _: f"<!-- state -->\n{line}<!-- /state -->\n", text, count=1)
