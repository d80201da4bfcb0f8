"""A table's cells on the page: where they break and link, and which columns a narrow window leaves out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

WORDS = frozenset({"Run", "Against", "Class", "Task", "Method", "Features", "Metric", "Level", "Rule", "Printed column"})
# Beginnings of heads: what a line is and its first score stay; of the others, these stay longest, and those leave first.
STAY = ("Run", "Against", "Class", "Level", "Rule", "Test, mean", "All clips, mean", "Ours, mean", "Difference")
LONGEST = ("Task", "Metric", "[95 %] over sources", "95 %, ", "Paper", "To the paper", "Method")
FIRST = ("Parameters", "Training", "Last epoch", "Best test epoch", "Best seed", "Test clips", "Features")
OF_ONE_ALONE = re.compile(r"[AV]o\b")
MARKS = re.compile(r" \[(\d+(?:, \d+)*)\]$")


def leaving(heads: Sequence[str]) -> list[int]:
    """The order in which columns leave a window that is too narrow for all: the largest number first, 0 never.

    Parsing's scores of events in audio alone or in visual alone (``Ao``, ``Vo``) leave before its others.
    """

    def tier(head: str) -> tuple[int, int]:
        if head.startswith(STAY) or head == first_number:
            return 0, 0
        if head.startswith(LONGEST):
            return 1, next(place for place, beginning in enumerate(LONGEST) if head.startswith(beginning))
        if head.startswith(FIRST):
            return 4, -next(place for place, beginning in enumerate(FIRST) if head.startswith(beginning))
        return (3 if OF_ONE_ALONE.search(head) else 2), heads.index(head)

    first_number = next((head for head in heads if head not in WORDS), None)
    tiers = [tier(head) for head in heads]
    others = sorted({entry for entry in tiers if entry[0]})
    return [others.index(entry) + 1 if entry[0] else 0 for entry in tiers]


def shown_words(cell: str, notes: str = "") -> Markup:
    """A name or words; a name may break after an underscore.

    Args:
        notes: beginning of the ids of the table's notes, to which numbers at the name's end then link: ``avel [1, 3]``.
    """
    marks = MARKS.search(cell) if notes else None
    text = str(escape(cell[: marks.start()] if marks else cell)).replace("_", "_<wbr>")
    if marks:
        text += " [" + ", ".join(f'<a href="#{notes}{number}">{number}</a>' for number in marks[1].split(", ")) + "]"
    return Markup(text)


def shown_number(cell: str) -> Markup:
    """A cell whose text in brackets goes on a line of its own in a narrow window: ``+0.68 [-3.31, +3.59]``."""
    return Markup(re.sub(r"(?<= )(\[[^\]]*\]|\([^)]*\))", r'<span class="aside">\1</span>', str(escape(cell))))


def with_code(text: str) -> Markup:
    """A sentence with its `commands` set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
