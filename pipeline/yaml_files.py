"""Read YAML within bounds: the size after expanding all aliases is checked before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent

from pipeline.text import read_text

LARGEST_FILE = 2**20  # bytes; the largest suite has 20 thousand
MOST_VALUES = 100_000  # keys and values with all aliases expanded; the largest suite has a few thousand
DEEPEST = 50  # levels of nested mappings and lists


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file as DVC does, plain data only; duplicate keys are refused.

    Raises:
        InputProblems: the file is not UTF-8.
        ValueError: the file is not YAML, too large, nested too deep, or too large with its aliases expanded; the reason in one line.
    """
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise ValueError(f"{size} bytes; a file of settings may have at most {LARGEST_FILE}")
    return parsed(read_text(path))


def parsed(text: str) -> Any:
    """Parse YAML as :func:`read_yaml` does.

    Raises:
        ValueError: as there.
    """
    try:
        _check_growth(text)
        return YAML(typ="safe").load(text)
    except (YAMLError, RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits, an impossible date
        raise ValueError(" ".join(str(error).split())) from None


def _check_growth(text: str) -> None:
    """Count the values with all aliases expanded, in time and memory proportional to the text's length.

    Raises:
        ValueError: too many values, nested too deep, or an alias inside its own anchor.
    """
    sizes: dict[str, int | None] = {}  # number of values under each anchor; None while it is being read
    opened: list[tuple[str | None, int]] = []  # anchor and number of values so far of each enclosing mapping and list
    total = 0
    for event in YAML(typ="safe").parse(text):
        count, anchor = 0, getattr(event, "anchor", None)
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            opened.append((anchor, 1))
            if anchor is not None:
                sizes[anchor] = None
            if len(opened) > DEEPEST:
                raise ValueError(f"line {event.start_mark.line + 1}: more than {DEEPEST} levels of nested mappings and lists")
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            anchor, count = opened.pop()
        elif isinstance(event, ScalarEvent):
            count = 1
        elif isinstance(event, AliasEvent):
            named = sizes.get(anchor or "", 1)  # the reader reports an alias without anchor
            if named is None:
                raise ValueError(f"line {event.start_mark.line + 1}: the alias *{anchor} is inside its own anchor")
            count, anchor = named, None
        if not count:
            continue
        if anchor is not None:
            sizes[anchor] = count
        if opened:
            opened[-1] = (opened[-1][0], opened[-1][1] + count)
        total = opened[-1][1] if opened else count
        if total > MOST_VALUES:
            raise ValueError(f"line {event.start_mark.line + 1}: with aliases expanded, there are more than {MOST_VALUES} values")
