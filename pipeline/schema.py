"""Check a file's content against a pydantic schema: one sentence per problem, with the path of its key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipeline.registry import Registry, suggest

LONGEST_SHOWN = 200  # characters of a value in a message


def schema_problems(model: type[BaseModel], content: Any, prefix: str) -> Iterator[str]:
    """Yield the problems that pydantic finds, as sentences; ``prefix`` is the path of ``content`` in the file."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        for finding in error.errors():
            keys = [str(part) for part in finding["loc"] if part != "[key]"]  # pydantic's mark for the key itself, as opposed to its value
            path = ".".join(([prefix] if prefix else []) + keys) or "the file"
            if finding["type"] == "extra_forbidden":
                yield f"{path}: unknown key{suggest(keys[-1], known_keys(model, keys[:-1]))}"
            elif finding["type"] == "missing":
                yield f"{path}: this key is needed"
            else:
                message = finding["msg"].removeprefix("Value error, ")
                whole = finding["type"] == "value_error" and isinstance(finding["input"], Mapping)  # the message names the part
                named = finding["loc"][-1:] == ("[key]",)  # the message quotes it
                yield f"{path}: {message[:1].lower()}{message[1:]}" + ("" if whole or named else f" (here: {shown(finding['input'])})")


def shown(value: Any) -> str:
    """Format a value for a message, shortened if it is long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."


def with_named_keys(content: Any, prefix: str, problems: list[str]) -> Any:
    """Convert every key of ``content`` to text; keys that YAML reads as something else (1, true, null) go to ``problems``."""
    if isinstance(content, list):
        return [with_named_keys(part, f"{prefix}.{place}" if prefix else str(place), problems) for place, part in enumerate(content)]
    if not isinstance(content, Mapping):
        return content
    named: dict[str, Any] = {}
    for key, value in content.items():
        spelled = key if isinstance(key, str) else "null" if key is None else str(key).lower() if isinstance(key, bool) else str(key)
        path = f"{prefix}.{spelled}" if prefix else spelled
        if not isinstance(key, str):
            problems.append(f'{path}: YAML reads this key as {type(key).__name__}, but a name is needed; put it in quotes: "{spelled}"')
        named[spelled] = with_named_keys(value, path, problems)
    return named


def known_keys(model: Any, keys: Iterable[str]) -> list[str]:
    """Field names of the model reached by following ``keys`` from ``model``, through dicts and optionals."""
    for key in keys:
        if isinstance(model, type) and issubclass(model, BaseModel) and key in model.model_fields:
            model = model.model_fields[key].annotation
        elif get_args(model):  # dict[str, Model]: the user chooses the key
            model = get_args(model)[-1]
        models = [part for part in get_args(model) if isinstance(part, type) and issubclass(part, BaseModel)]
        if models and not _is_dict(model):
            model = models[0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _is_dict(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is dict


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one; the schema reports values that are not mappings."""
    return value if isinstance(value, Mapping) else {}


def block(params: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One block of a params file, as :func:`mapping` gives it."""
    return mapping(params.get(name))


def unknown(path: str, name: Any, registry: Registry) -> list[str]:
    """A sentence with the nearest name if ``name`` is a text that is not registered; else nothing."""
    if not isinstance(name, str) or name in registry.names():
        return []
    return [f"{path}: unknown {registry.kind} {name!r}{suggest(name, registry.names())}"]
