"""Every setting of every room has bounds: a field that states none has those of its class."""

from __future__ import annotations

import importlib
import math
import pkgutil
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import Field, ValidationError

import pipeline
from pipeline.settings import Settings, name_problem

HUGE = {int: 10**25, float: 1e25}


def classes() -> list[type[Settings]]:
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[Settings]] = []
    waiting: list[type[Settings]] = [Settings]
    while waiting:
        below = [each for each in waiting.pop().__subclasses__() if each.__module__.startswith("pipeline.")]
        found += below
        waiting += below
    return sorted(set(found), key=lambda each: (each.__module__, each.__name__))


def numeric(annotation: Any) -> Iterator[type]:
    """Yield the plain number types of a field: int, float, both or none."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    yield from (kind for kind in kinds if kind in (int, float))


def refused(model: type[Settings], name: str, value: Any) -> bool:
    """Whether the value is a problem of that very field."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return any(finding["loc"][:1] == (name,) for finding in error.errors())
    return False


def test_no_number_of_any_setting_is_without_bounds_or_infinite():
    checked, open_ones = 0, []
    for model in classes():
        for name, field in model.model_fields.items():
            for kind in numeric(field.annotation):
                checked += 1
                bad = [HUGE[kind], -HUGE[kind], True] + ([math.inf, -math.inf, math.nan] if kind is float else [])
                open_ones += [f"{model.__name__}.{name} takes {value!r}" for value in bad if not refused(model, name, value)]
    assert checked > 250
    assert not open_ones


def test_defaults_lie_within_the_bounds():
    """The bounds must allow the papers' own numbers."""
    for model in classes():
        for name, field in model.model_fields.items():
            if not field.is_required() and isinstance(field.default, int | float | tuple | list):
                assert not refused(model, name, field.default), f"{model.__name__}.{name} = {field.default!r}"


def test_a_bound_of_the_field_goes_before_that_of_the_class():
    class Own(Settings):
        largest_integer = 10
        width: int = 1
        bytes: int = Field(1, le=10**12)
        many: tuple[int, ...] = ()

    assert Own(bytes=10**11, width=10, many=(10,)).bytes == 10**11
    for wrong in ({"width": 11}, {"bytes": 10**13}, {"many": (1, 11)}, {"many": (-11,)}):
        with pytest.raises(ValidationError):
            Own.model_validate(wrong)


@pytest.mark.parametrize("name", ["a", "A-1_b", "0", "_", "n" * 64])
def test_good_names(name):
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["", "-a", "a b", "a.b", "a/b", "a\n", "ä", "n" * 65, "a;b", "$a", "..", "a\0b"])
def test_bad_names_are_answered_with_a_good_one(name):
    problem = name_problem(name)
    assert problem is not None
    assert name_problem(problem.rsplit("'", 2)[1]) is None
