"""The base of everything read from params.yaml: settings with bounds, and the rule for the user's names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import annotated_types
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LONGEST_NAME = 64  # characters: a name becomes part of file names, whose length the system limits
LARGEST_SEED = 2**32 - 1  # torch's generators take the seed modulo 2^32, so a larger seed would equal a smaller one
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


class Settings(BaseModel):
    """Immutable settings: an unknown key is an error, and numbers are finite and bounded.

    A field without an upper bound of its own has that of its class, :attr:`largest_integer` or :attr:`largest_number` (in both
    directions), also inside tuples and lists.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)
    largest_integer: ClassVar[int] = 10**6
    largest_number: ClassVar[float] = 1e6

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float, int | None, float | None):
            raise ValueError("a number is needed")
        return value

    @field_validator("*")
    @classmethod
    def _within_bounds(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if not any(isinstance(bound, annotated_types.Le | annotated_types.Lt) for bound in field.metadata):
            for number in _numbers(value):
                limit = cls.largest_integer if isinstance(number, int) else cls.largest_number
                if abs(number) > limit:
                    raise ValueError(f"beyond what makes sense; at most {limit:g}")
        return value


def _numbers(value: Any) -> Iterator[int | float]:
    """Yield the numbers of a field's value, except those in mappings, which other settings check."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, tuple | list):
        yield from (number for part in value for number in _numbers(part))


def name_problem(name: str) -> str | None:
    """Why a user's name cannot be used, with a spelling that can; None for a good name.

    These names become names of stages, files and directories, and arguments of commands.
    """
    if _NAME.fullmatch(name) and len(name) <= LONGEST_NAME:
        return None
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    spelled = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:LONGEST_NAME] or "name"
    return (
        f"the name {name[: 2 * LONGEST_NAME]!r} cannot be used: it may have at most {LONGEST_NAME} ASCII letters, digits, _ and -, and"
        f" must not begin with -; for instance {spelled!r}"
    )


def _good_name(name: str) -> str:
    if problem := name_problem(name):
        raise ValueError(problem)
    return name


Name = Annotated[str, AfterValidator(_good_name)]
Seed = Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``over`` into ``base``, mappings key by key."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result
