"""Options that several commands share, and checked settings from a command's options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.errors import InputProblems
from pipeline.marks import insert
from pipeline.settings import Settings

Chosen = TypeVar("Chosen", bound=Settings)


def settings(kind: type[Chosen], arguments: argparse.Namespace) -> Chosen:
    """The settings from a command line; omitted options have their defaults.

    Raises:
        InputProblems: values out of range, each with its option.
    """
    given = {name: value for name, value in vars(arguments).items() if name in kind.model_fields and value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        findings = [(str(found["loc"][0]).replace("_", "-"), found["msg"], found["input"]) for found in error.errors()]
        raise InputProblems("options", [f"--{name}: {message} (here: {value!r})" for name, message, value in findings]) from None


def key_values(words: list[str], advice: str = "") -> dict[str, Any]:
    """Turn KEY=VALUE words into settings, values as in params.yaml.

    Args:
        advice: what else to do about a word that is none.

    Raises:
        InputProblems: every word that is none.
    """
    from pipeline.yaml_files import parsed

    problems, found = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        try:
            found[key] = parsed(value)
        except ValueError as error:
            problems.append(f"{word!r}: {error}")
        if not equals:
            problems.append(f"{word!r} is no KEY=VALUE{advice}")
    if problems:
        raise InputProblems("options", problems)
    return found


def add_tables(parser: argparse.ArgumentParser, mark: str, condition: str) -> None:
    """Add the options of a command that prints tables of experiments: :func:`put` reads where.

    Args:
        mark: name of the marks, unless another is given.
        condition: the option with which commits count.
    """
    parser.add_argument("--commits", type=int, default=10, metavar="N", help=f"with {condition}: of the last N commits (default 10)")
    parser.add_argument("--into", type=Path, metavar="FILE", help="text file to put into what would be printed")
    parser.add_argument("--mark", default=mark, help=f"name of the marks in that file (default {mark})")


def put(text: str, arguments: argparse.Namespace) -> None:
    """Print a text, or put it between the marks of the file of ``--into``."""
    if arguments.into:
        insert(arguments.into, arguments.mark, text)
        print(f"{arguments.into}: now between <!-- {arguments.mark} --> and <!-- /{arguments.mark} -->")
    else:
        print(text)
