"""``made_with.json`` of a stage's out: the params and the machines that made it, so that a table can tell when they have changed.

Params are nested as in params.yaml, defaults filled in; ``settings`` are those of a run's method. Machines stand by the work they did
("features", "fine-tuning" ...). The record says what numbers were made with; DVC alone decides what runs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.machine import Machine
from pipeline.sealed import read_sealed, write_sealed

FILE = "made_with.json"
WORKING_SETTINGS = {"checkpoint_seconds"}  # of a training: how to work, not what comes out
NOTHING = "–"


def write_made_with(directory: Path, params: Mapping[str, Any], machines: Mapping[str, Sequence[Machine]]) -> None:
    """Write the record into an out's directory. ``machines``: {} where no arithmetic of ours made its numbers."""
    write_sealed(directory / FILE, {"params": publishable(params), "machines": machines}, sort_keys=True)


def read_made_with(directory: Path) -> dict[str, Any]:
    """``params`` and ``machines`` of an out; of one without a record, no params and no machines."""
    path = directory / FILE
    return read_sealed(path) if path.is_file() else {"params": {}, "machines": {}}


def publishable(value: Any) -> Any:
    """Plain JSON without this machine's folders: an absolute path is written from the project's root, or, outside it, by its name."""
    if isinstance(value, Mapping):
        return {key: publishable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [publishable(entry) for entry in value]
    if isinstance(value, Path) or (isinstance(value, str) and value.startswith("/")):
        path = Path(value)
        if not path.is_absolute():
            return path.as_posix()
        return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else f".../{path.name}"
    return value


def changed_params(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``recipe.epochs 24 -> 48`` for every param that differs. What ``then`` has no block of was not recorded, and is not compared."""
    before, after = dict(_flat(then, "")), dict(_flat({key: value for key, value in now.items() if key in then}, ""))
    paths: Iterable[str] = dict.fromkeys([*before, *after])
    differing = [path for path in paths if before.get(path) != after.get(path)]
    return [f"{path.removeprefix('settings.')} {_plain(before.get(path))} -> {_plain(after.get(path))}" for path in differing]


def _flat(nested: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        else:
            yield path, list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:g}"
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, tuple | list) else str(value)
