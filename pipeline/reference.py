"""Write docs/settings.md: every key of params.yaml with type, range, default and meaning, from the schema itself.

A field without a description of its own takes that of the class that it overrides it in, or its line in the class's docstring.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config import Params
from pipeline.encoders import ENCODERS
from pipeline.made_with import WORKING_SETTINGS
from pipeline.methods import METHODS
from pipeline.methods.base import MethodConfig
from pipeline.training.settings import TrainSettings
from pipeline.yaml_files import read_yaml

HEAD = """# Settings

Every key of `params.yaml`, made from the schema: `python -m pipeline settings --reference` writes this page. NAME stands for
a name of your choice. A key without a default is needed. *Read by* names the stages whose work a changed value starts again;
after them, whatever depends on an out that changed. `plan` checks every change, in seconds.
`python -m pipeline settings RUN` prints the settings of a run, and where each comes from.
"""
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", dict: "mapping"}
BOUNDS = {annotated_types.Ge: ("at least", "ge"), annotated_types.Gt: ("above", "gt"), annotated_types.Le: ("at most", "le"),
          annotated_types.Lt: ("below", "lt")}  # fmt: skip


def reference(dvc_yaml: Path) -> str:
    """The page, as Markdown."""
    readers = stage_params(dvc_yaml)
    parts = [HEAD]
    for block, field in Params.model_fields.items():
        lines = list(block_lines(block, field, readers)) if block != "methods" else []
        parts.append(f"## `{block}`\n\n{sentence(field.description or '')}\n\n" + (table(lines, "Read by") if lines else METHODS_HEAD))
        if block == "methods":
            parts += method_parts()
    parts.append("## Encoders\n\nFurther keys beside `encoder`, wherever an encoder is named.\n")
    for name in ENCODERS.names():
        if lines := [line[:4] for line in rows(ENCODERS.get(name).Config, "")]:
            parts.append(f"### `{name}`\n\n{table(lines)}")
    return "\n".join(parts)


METHODS_HEAD = """Read by `train` and `evaluate` of the method's runs. A run's `overrides` take the same keys. First what all methods share;
each method then lists what it adds, and defaults that differ.
"""


def method_parts() -> Iterator[str]:
    common = {line[0]: line[:4] for line in rows(MethodConfig, "")}
    yield f"### Every method\n\n{table([*common.values()])}"
    for name in METHODS.names():
        own = [line[:4] for line in rows(METHODS.get(name).Config, "") if common.get(line[0]) != line[:4]]
        yield f"### `{name}`\n\n{table(own)}"


def block_lines(block: str, field: FieldInfo, readers: dict[str, list[str]]) -> Iterator[list[str]]:
    for key, kind, default, meaning in nested(block, field):
        pattern = key.replace("NAME", "${key}", 1)
        stages = [stage for stage, named in readers.items() if any(f"{pattern}.".startswith(f"{param}.") for param in named)]
        yield [key, kind, default, meaning, ", ".join(stages) or "no stage"]


def stage_params(dvc_yaml: Path) -> dict[str, list[str]]:
    """By stage, except `plan`, the params that it reads."""
    stages = read_yaml(dvc_yaml)["stages"]
    passed_on = [f"train.{key}" for key in TrainSettings.model_fields if key not in WORKING_SETTINGS]  # by the plan
    return {
        name: stage.get("do", stage).get("params", []) + (passed_on if name in ("train", "evaluate") else [])
        for name, stage in stages.items()
        if name != "plan"
    }


def rows(model: type[BaseModel], prefix: str) -> Iterator[list[str]]:
    """Yield (key, type and range, default, meaning) of every field, settings within settings in place."""
    for name, field in model.model_fields.items():
        inner = list(nested(f"{prefix}{name}", field))
        if inner[0][0] == f"{prefix}{name}":
            inner[0][3] = meaning(model, name)
        yield from inner


def nested(key: str, field: FieldInfo) -> Iterator[list[str]]:
    """Yield one line of a field, or those of the settings that it holds, alone or by name."""
    for annotation in (field.annotation, *get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            by_name = get_origin(field.annotation) is dict
            default = None if by_name or field.is_required() else field.get_default(call_default_factory=True)
            yield from rows(annotation if default is None else type(default), f"{key}.{'NAME.' if by_name else ''}")
            return
    yield [key, kind(field), default_of(field), field.description or ""]


def kind(field: FieldInfo) -> str:
    limits = {type(bound): getattr(bound, BOUNDS[type(bound)][1]) for bound in field.metadata if type(bound) in BOUNDS}
    words = [f"{BOUNDS[bound][0]} {plain(value)}" for bound, value in limits.items()]
    return ", ".join([type_words(field.annotation), *words])


def type_words(annotation: Any) -> str:
    """Name a type in words; ``Literal`` as its values."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " \\| ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else type_words(part) for part in inner)
    if origin in (list, tuple):
        return f"list of {type_words(inner[0])}" if inner else "list"
    if origin is dict:
        return f"mapping of names to {type_words(inner[1])}"
    if hasattr(annotation, "__metadata__"):
        return type_words(inner[0])
    return WORDS.get(annotation, "anything")


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "–"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(str, value))}]"
    return plain(value)


def plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def meaning(model: type[BaseModel], name: str) -> str:
    """The description of a field: its own, that of a class above, or its line in a docstring."""
    for above in model.__mro__:
        if issubclass(above, BaseModel) and name in above.model_fields:
            if description := above.model_fields[name].description:
                return description
            if found := re.search(rf"^ *{name}: (.*(?:\n {{8,}}\S.*)*)", above.__doc__ or "", re.MULTILINE):
                return " ".join(found[1].split()).replace("``", "`")
    return ""


def table(lines: list[list[str]], *more: str) -> str:
    heads = ["Key", "Type and range", "Default", "Meaning", *more]
    body = [[f"`{key}`", *(cell if "\\|" in cell else cell.replace("|", "\\|") for cell in rest)] for key, *rest in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *body)) + "\n"


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
