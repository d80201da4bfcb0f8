"""Find the code that a number depends on: every project module that a file imports, directly or through others.

Deps of stages, digests of the code that a run's settings choose, and fingerprints of interrupted work all use it, so they agree.
It reads the source (imports inside functions too) and imports nothing, so it describes what is on disk now.

>>> any(path.as_posix() == "pipeline/methods/cace_net/spiking.py" for path in closure([Path("pipeline/methods/cace_net/method.py")]))
True
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from pipeline.cache import file_sha256

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("pipeline", "stages")

# Modules that only record how a number was made, for the report to compare.
RECORDS = {
    "pipeline/machine.py": "records the machine that made a number; the record does not change the number",
    "pipeline/made_from.py": "lists the params that make an out; DVC compares the params themselves",
    "pipeline/made_with.py": "records the params that made a number; DVC compares the params themselves",
}
CHECKS = [f"pipeline/{room}/problems.py" for room in ("contrastive", "datasets", "features", "labels", "methods", "report", "training")]
# Modules that cannot change a number, each with its reason; modules that only they import are left out of a closure too.
PLUMBING = {
    **RECORDS,
    **dict.fromkeys(CHECKS, "errors about params.yaml, raised before any number"),
    "pipeline/__init__.py": "names for users, looked up when they are asked for; no module of the project uses them",
    "pipeline/cache/__init__.py": "returns an entry as it was stored or not at all; keys cover the content of entries",
    "pipeline/children.py": "starts, watches and ends processes; the code that these run is listed on its own",
    "pipeline/closure.py": "finds dependencies; a wrong answer shows in the files it writes",
    "pipeline/config.py": "checks params.yaml and passes its values on; DVC compares the values, and their classes are listed on their own",
    "pipeline/console.py": "prints messages and sets exit codes",
    "pipeline/disk.py": "error messages about the disk",
    "pipeline/encoders/download.py": "brings weights when a command asks for it; no encoder downloads",
    "pipeline/encoders/known_weights.py": "maps a name to a file of weights; the plan holds what it says of the chosen encoders",
    "pipeline/disk_room.py": "says what will be written, and refuses what cannot fit",
    "pipeline/errors.py": "error messages for the user",
    "pipeline/features/__init__.py": "a name for Python users, imported when asked for; no stage asks",
    "pipeline/features/engines/ray.py": "starts the local engine's work on other processes; the code that these run is listed on its own",
    "pipeline/features/room.py": "estimates what will be written",
    "pipeline/media/room.py": "estimates what will be written, and whether frames are stored; they are the same where they are not",
    "pipeline/progress.py": "prints how far a work is",
    "pipeline/publish.py": "renames a finished file or directory without looking into it",
    "pipeline/ranks.py": "which process of several this is; a stage that shares its work says how",
    "pipeline/training/ray_seeds.py": "starts on other machines the process that trains a seed; its code is listed on its own",
    "pipeline/registry.py": "maps a name to its class; the file of a chosen entry is listed on its own",
    "pipeline/scratch.py": "temporary directories that are removed with their process",
    "pipeline/shards.py": "shares of the clips that only fill the cache, under the keys of the whole",
    "pipeline/stage.py": "locks, and the frame around a stage's work",
    "pipeline/ray_cluster.py": "connects to other machines and checks that they have this code; it computes nothing",
    "pipeline/sealed.py": "returns a record as it was written or not at all",
    "pipeline/tasks/avel/shown.py": "what the report and predict show; the report has all of tasks in its deps",
    "pipeline/tasks/avvp/shown.py": "what the report and predict show; the report has all of tasks in its deps",
    "pipeline/tasks/avvp_av/shown.py": "what the report and predict show; the report has all of tasks in its deps",
    "pipeline/tasks/base.py": "a protocol; it computes nothing",
    "pipeline/tasks/cml/shown.py": "what the report and predict show; the report has all of tasks in its deps",
    "pipeline/tasks/untracked.py": "members of a task that only raise errors",
    "pipeline/tables.py": "returns a table as it was written or not at all",
    "pipeline/together.py": "lets processes start and end together and refuses different ones; it computes nothing",
    "pipeline/tensors.py": "returns tensors as they were written or not at all",
    "stages/__init__.py": "sets how threads wait for one another",
    "stages/paths.py": "paths that dvc.yaml names as well; a wrong path finds no file",
}
# Packages that import every entry of a kind. Only the names imported from them count; the entry that settings choose is added by name.
REGISTRIES = (
    "pipeline/datasets/__init__.py",
    "pipeline/encoders/__init__.py",
    "pipeline/methods/__init__.py",
    "pipeline/tasks/__init__.py",
)


def closure(starts: Iterable[Path], root: Path = ROOT, cut: Iterable[str] = PLUMBING) -> list[Path]:
    """Project files that ``starts`` import, including themselves, as sorted paths below ``root``.

    A package's ``__init__`` counts only if it holds more than a docstring.

    Args:
        starts: files below ``root``, absolute or relative to it.
        cut: paths to leave out and not follow.
    """
    left_out, found = {Path(path) for path in cut}, set()
    ahead = [_below(path, root) for path in starts]
    while ahead:
        path = ahead.pop()
        if path in found or path in left_out:
            continue
        found.add(path)
        ahead += imported(path, root)
    return sorted(path for path in found if path.name != "__init__.py" or _does_something((root / path).read_text(encoding="utf-8")))


def digests(starts: Iterable[Path], root: Path = ROOT, cut: Iterable[str] = PLUMBING) -> dict[str, str]:
    """The sha256 of every file in :func:`closure`, by path."""
    return {path.as_posix(): file_sha256(root / path) for path in closure(starts, root, cut)}


def imported(path: Path, root: Path = ROOT) -> list[Path]:
    """Project files that one file imports, with the ``__init__`` of every package on the way.

    From a registry only the modules of the imported names count.
    """
    package = path.parent.parts
    files = [] if path.name == "__init__.py" else _packages(package, root)
    for module, name in _imports(root / path, package):
        files += _files(module, name, root)
    return files


def _below(path: Path, root: Path) -> Path:
    """Make a path relative to ``root``; a path elsewhere (a plug-in's or test's method) is returned as it is."""
    inside = path.is_absolute() and path.resolve().is_relative_to(root.resolve())
    return path.resolve().relative_to(root.resolve()) if inside else path


@lru_cache(maxsize=1024)
def _does_something(source: str) -> bool:
    tree = ast.parse(source)
    return len(tree.body) > (ast.get_docstring(tree) is not None)


def _imports(file: Path, package: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yield (module, imported name or None) for every import of the project's own code."""
    for module, name, level in _statements(file.read_text(encoding="utf-8")):
        base = package[: len(package) + 1 - level] if level else ()
        parts = (*base, *(module.split(".") if module else ()))
        if parts[0] in ROOMS:
            yield parts, name


@lru_cache(maxsize=1024)
def _statements(source: str) -> list[tuple[str | None, str | None, int]]:
    found: list[tuple[str | None, str | None, int]] = []
    ahead: list[ast.AST] = [ast.parse(source)]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Import):
            found += [(alias.name, None, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module, alias.name, node.level) for alias in node.names]
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            ahead += node.orelse  # the body never runs
        else:
            ahead += ast.iter_child_nodes(node)
    return found


def _files(module: tuple[str, ...], name: str | None, root: Path) -> list[Path]:
    """The files that ``from module import name`` runs; for a name of a registry, also its own module.

    A name of None stands for ``import module``.
    """
    whole = Path(*module)
    for inner in ([whole / name] if name else []) + [whole]:
        if (root / inner.with_suffix(".py")).is_file():
            return [*_packages(inner.parent.parts, root), inner.with_suffix(".py")]
        if inner != whole and (root / inner).is_dir():
            return _packages(inner.parts, root)
    files = _packages(whole.parts, root)
    init = whole / "__init__.py"
    if init.as_posix() in REGISTRIES and name is not None:
        for origin, taken in _imports(root / init, whole.parts):
            if name in (taken, "*") and origin != module:
                files += _files(origin, taken, root)
    return files


def _packages(parts: tuple[str, ...], root: Path) -> list[Path]:
    """The ``__init__`` files of a package and of those around it, except registries, which import every entry."""
    inits = [Path(*parts[: depth + 1], "__init__.py") for depth in range(len(parts))]
    return [init for init in inits if init.as_posix() not in REGISTRIES and (root / init).is_file()]
