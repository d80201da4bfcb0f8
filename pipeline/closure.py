"""The code that a number depends on: every project module that a file imports, directly or through others.

Deps of stages, digests of what a run's settings choose, and fingerprints of interrupted work all come from here, so they agree.
Read from the source (imports inside functions too), never by importing: it says what is on disk now.

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

# What tells of a number, beside it, and is compared by the report alone.
RECORDS = {
    "pipeline/machine.py": "says on which machine a number was made; what a machine does to numbers, it does without being named",
    "pipeline/made_from.py": "says which params make an out; DVC compares the params themselves",
    "pipeline/made_with.py": "says with which params a number was made; DVC compares the params themselves",
}
CHECKS = [f"pipeline/{room}/problems.py" for room in ("contrastive", "datasets", "features", "methods", "report", "training")]
# Modules that cannot move a number, each with its reason; what only they import is no part of a closure either.
PLUMBING = {
    **RECORDS,
    **dict.fromkeys(CHECKS, "sentences about params.yaml, in place of a number"),
    "pipeline/cache.py": "an entry comes back as it was put, or not at all; what entries hold is in their keys",
    "pipeline/children.py": "starts, watches and ends processes; what these compute is a part of its own",
    "pipeline/closure.py": "says what depends on what; a wrong answer shows in what it writes",
    "pipeline/config.py": "checks params.yaml and hands its values on; DVC compares the values, and their classes are parts of their own",
    "pipeline/console.py": "how sentences and exit codes reach the user",
    "pipeline/disk.py": "sentences about the disk, in place of a number",
    "pipeline/errors.py": "sentences for the user, in place of a number",
    "pipeline/publish.py": "gives a finished file or directory its name; it does not look into them",
    "pipeline/registry.py": "a name leads to its class; an entry's file is a part of its own where it is chosen",
    "pipeline/scratch.py": "temporary directories that go with their process",
    "pipeline/stage.py": "locks, and the frame around a stage's work",
    "pipeline/sealed.py": "a record comes back as it was written, or not at all",
    "pipeline/tasks/avel/shown.py": "what the report and predict show; the report has all of tasks in its deps",
    "pipeline/tasks/avvp/shown.py": "what the report and predict show; the report has all of tasks in its deps",
    "pipeline/tasks/base.py": "says what a task has; a protocol computes nothing",
    "pipeline/tasks/cml/shown.py": "what the report and predict show; the report has all of tasks in its deps",
    "pipeline/tasks/untracked.py": "members of a task that refuse, in place of a number",
    "pipeline/tables.py": "a table comes back as it was written, or not at all",
    "pipeline/tensors.py": "tensors come back as they were written, or not at all",
    "stages/__init__.py": "how threads wait for one another",
    "stages/paths.py": "paths that dvc.yaml names as well; a wrong one finds no file",
}
# Packages that import every entry of a kind. Only what is taken out of them counts; the entry that settings choose is added by its name.
REGISTRIES = (
    "pipeline/datasets/__init__.py",
    "pipeline/encoders/__init__.py",
    "pipeline/methods/__init__.py",
    "pipeline/tasks/__init__.py",
)


def closure(starts: Iterable[Path], root: Path = ROOT, cut: Iterable[str] = PLUMBING) -> list[Path]:
    """Files of the project that ``starts`` import, themselves included, as sorted paths below ``root``.

    A package's ``__init__`` counts once it holds more than a docstring.

    Args:
        starts: files below ``root``, absolute or relative to it.
        cut: paths that are left out, and not followed.
    """
    left_out, found = {Path(path) for path in cut}, set()
    ahead = [_below(path, root) for path in starts]
    while ahead:
        path = ahead.pop()
        if path in found or path in left_out:
            continue
        found.add(path)
        ahead += imported(path, root)
    return sorted(path for path in found if path.name != "__init__.py" or _does_something(root / path))


def digests(starts: Iterable[Path], root: Path = ROOT, cut: Iterable[str] = PLUMBING) -> dict[str, str]:
    """sha256 of every file in :func:`closure`, by its path."""
    return {path.as_posix(): file_sha256(root / path) for path in closure(starts, root, cut)}


def imported(path: Path, root: Path = ROOT) -> list[Path]:
    """Project files that one file imports, and the ``__init__`` of every package on the way; registries give what is taken out of them."""
    package = path.parent.parts
    files = [] if path.name == "__init__.py" else _packages(package, root)
    for module, name in _imports(root / path, package):
        files += _files(module, name, root)
    return files


def _below(path: Path, root: Path) -> Path:
    """Relative to ``root``; as it is where it lies elsewhere (a method of a plug-in, of a test)."""
    inside = path.is_absolute() and path.resolve().is_relative_to(root.resolve())
    return path.resolve().relative_to(root.resolve()) if inside else path


def _does_something(file: Path) -> bool:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return len(tree.body) > (ast.get_docstring(tree) is not None)


def _imports(file: Path, package: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """(module, name taken out of it or None) of every import of the project's own code."""
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
            ahead += node.orelse  # the rest never runs
        else:
            ahead += ast.iter_child_nodes(node)
    return found


def _files(module: tuple[str, ...], name: str | None, root: Path) -> list[Path]:
    """The files that ``from module import name`` runs (``import module`` without a name), and for a registry's name its own module."""
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
    """``__init__`` files of a package and those around it, but for registries, which would bring every entry in."""
    inits = [Path(*parts[: depth + 1], "__init__.py") for depth in range(len(parts))]
    return [init for init in inits if init.as_posix() not in REGISTRIES and (root / init).is_file()]
