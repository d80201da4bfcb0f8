"""What a message must name, not how it says it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def says(text: str, *parts: str) -> bool:
    """Whether all parts (names, paths, numbers, at most a key word) stand in the text, in this order."""
    start = 0
    for part in parts:
        found = text.find(part, start)
        if found < 0:
            return False
        start = found + len(part)
    return True


def each_says(texts: Sequence[str], expected: Iterable[Sequence[str]]) -> bool:
    """Whether there is one text for each tuple of parts, in the same order, and each says its own."""
    expected = list(expected)
    return len(texts) == len(expected) and all(says(text, *parts) for text, parts in zip(texts, expected, strict=True))


def one_says(texts: Iterable[str], *parts: str) -> bool:
    """Whether exactly one of the texts says this."""
    return sum(says(text, *parts) for text in texts) == 1
