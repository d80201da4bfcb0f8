"""The options of a command as checked settings."""

from __future__ import annotations

import argparse
from typing import TypeVar

from pydantic import ValidationError

from pipeline.errors import InputProblems
from pipeline.settings import Settings

Chosen = TypeVar("Chosen", bound=Settings)


def settings(kind: type[Chosen], arguments: argparse.Namespace) -> Chosen:
    """The settings that a command line gives; an option that was left out has its default.

    Raises:
        InputProblems: every value out of range, by its option.
    """
    given = {name: value for name, value in vars(arguments).items() if name in kind.model_fields and value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        findings = [(str(found["loc"][0]).replace("_", "-"), found["msg"], found["input"]) for found in error.errors()]
        raise InputProblems("options", [f"--{name}: {message} (here: {value!r})" for name, message, value in findings]) from None
