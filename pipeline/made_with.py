"""``made_with.json`` of a stage's out: the params and machines that made it, so the report can detect changes.

Params are nested as in params.yaml, defaults filled in; ``settings`` are those of a run's method. Machines are listed by the work they did
("features", "fine-tuning" ...). The file is only a record; DVC alone decides what runs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.machine import Machine
from pipeline.sealed import read_sealed, write_sealed

FILE = "made_with.json"
WORKING_SETTINGS = {"checkpoint_seconds", "graphs", "loggers", "resident_gb"}  # settings of a training that do not affect its result
NOTHING = "–"


def write_made_with(directory: Path, params: Mapping[str, Any], machines: Mapping[str, Sequence[Machine]]) -> None:
    """Write the record into an out's directory.

    Args:
        machines: by work done; {} if this project computed nothing for the out.
    """
    write_sealed(directory / FILE, {"params": publishable(params), "machines": machines}, sort_keys=True)


def read_made_with(directory: Path) -> dict[str, Any]:
    """Read ``params`` and ``machines`` of an out; both are empty if it has no record."""
    path = directory / FILE
    return read_sealed(path) if path.is_file() else {"params": {}, "machines": {}}


def publishable(value: Any) -> Any:
    """Convert to plain JSON without this machine's folders.

    An absolute path becomes relative to the project's root; of a path outside it, only the name is kept.
    """
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
    """List the params that differ, as ``recipe.epochs 24 -> 48``; blocks missing from ``then`` are not compared."""
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
