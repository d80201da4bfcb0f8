"""YAML read with bounds: what a file would grow to is known before anything of it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent

from pipeline.text import read_text

LARGEST_FILE = 2**20  # bytes; the largest suite has 20 thousand
MOST_VALUES = 100_000  # keys and values once every alias stands for what it names; the largest suite has a few thousand
DEEPEST = 50  # mappings and lists in one another


def read_yaml(path: Path) -> Any:
    """The content of a YAML 1.2 file, plain data only, as DVC reads it; a key given twice is refused.

    Raises:
        InputProblems: it is not UTF-8.
        ValueError: the file is no YAML, too large, nested too deep, or its aliases stand for too much, with the reason in one line.
    """
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise ValueError(f"{size} bytes; a file of settings has at most {LARGEST_FILE}")
    text = read_text(path)
    try:
        _check_growth(text)
        return YAML(typ="safe").load(text)
    except (YAMLError, RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits, a date that is none
        raise ValueError(" ".join(str(error).split())) from None


def _check_growth(text: str) -> None:
    """Count what the aliases stand for, event by event, in time and memory of the text's own length.

    Raises:
        ValueError: too much, too deep, or an alias inside of what it names.
    """
    sizes: dict[str, int | None] = {}  # by anchor the values it stands for; None while it is being read
    opened: list[tuple[str | None, int]] = []  # anchor and values so far of every mapping and list around
    total = 0
    for event in YAML(typ="safe").parse(text):
        count, anchor = 0, getattr(event, "anchor", None)
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            opened.append((anchor, 1))
            if anchor is not None:
                sizes[anchor] = None
            if len(opened) > DEEPEST:
                raise ValueError(f"line {event.start_mark.line + 1}: more than {DEEPEST} mappings and lists in one another")
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            anchor, count = opened.pop()
        elif isinstance(event, ScalarEvent):
            count = 1
        elif isinstance(event, AliasEvent):
            named = sizes.get(anchor or "", 1)  # an alias of nothing: the reader says so
            if named is None:
                raise ValueError(f"line {event.start_mark.line + 1}: the alias *{anchor} stands inside of what it names")
            count, anchor = named, None
        if not count:
            continue
        if anchor is not None:
            sizes[anchor] = count
        if opened:
            opened[-1] = (opened[-1][0], opened[-1][1] + count)
        total = opened[-1][1] if opened else count
        if total > MOST_VALUES:
            raise ValueError(f"line {event.start_mark.line + 1}: with its aliases this stands for more than {MOST_VALUES} values")
