"""Turn the options of a command into checked settings."""

from __future__ import annotations

import argparse
from typing import TypeVar

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
