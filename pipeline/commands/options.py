"""Turn the options of a command into checked settings."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.errors import InputProblems
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
