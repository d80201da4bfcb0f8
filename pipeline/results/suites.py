"""The suites with pages in docs/results/, and the code and params that the numbers of a suite depend on."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline import config
from pipeline.closure import PLUMBING, ROOT, closure
from pipeline.config import Params
from pipeline.datasets import DATASETS
from pipeline.errors import InputProblems, PipelineError
from pipeline.named_data import missing_data
from pipeline.plan import choices, missing_files
from pipeline.registry import suggest
from pipeline.yaml_files import read_yaml

SUITES = (
    *("demo", "demo-methods", "demo-parsing", "demo-dense", "demo-labels"),
    *("realmix", "realmix-parsing", "realmix-folds"),
)
MAY_LACK_DATA = ("demo-labels", "realmix", "realmix-parsing", "realmix-folds")  # they name files of ../shared, no part of the project
NO_NUMBER = ("machine", "cache")  # blocks of params.yaml that change no number
# What a task shows is cut from a run's code; it also computes the paired intervals of the tables.
CUT = [path for path in PLUMBING if not path.endswith("/shown.py")]


def suite_file(suite: str, root: Path) -> Path:
    """The params file of a suite.

    Raises:
        PipelineError: there is none; with the nearest name.
    """
    path = root / "suites" / f"{suite}.yaml"
    if not path.is_file():
        raise PipelineError(f"no suite {suite!r}{suggest(suite, [each.stem for each in sorted(path.parent.glob('*.yaml'))])}")
    return path


def missing(suite: str, root: Path) -> list[str]:
    """One sentence for each file or folder that a suite names and that is not there, seen from ``root``."""
    params = config.load(suite_file(suite, root))
    return [*missing_data(params, root), *missing_files(params, root)]


def params_digest(path: Path) -> str:
    """Hash the settings of a params file that can change a number: not its comments, nor the blocks of NO_NUMBER.

    Raises:
        InputProblems: it is no YAML.
    """
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise InputProblems(str(path), [str(error)]) from None
    return _sha256({block: value for block, value in content.items() if block not in NO_NUMBER})


def code_files(params: Params, root: Path) -> list[Path]:
    """Source files below ``root`` that can change a number of a suite, sorted.

    They are those of the stages that the suite runs, and those that its settings choose. What only draws, reports or checks is not among
    them.

    Raises:
        PipelineError: ``root`` lacks a file that the settings choose, because it holds an older project.
    """
    stages: dict[str, Mapping[str, Any] | bool] = {
        "synthesize": params.synth,
        "index": True,
        "decode": bool(params.features or params.finetune),
        "finetune": params.finetune,
        "extract": params.features,
        "import_features": params.imports,
        "label": params.labels,
        "train": params.runs,
        "evaluate": params.runs,
    }
    chosen = {Path(inspect.getfile(DATASETS.get(params.dataset.kind))), *(path for choice in choices(params) for path in choice.code)}
    starts = [Path("stages", f"{name}.py") for name, used in stages.items() if used]
    starts += [path.relative_to(ROOT) if path.is_relative_to(ROOT) else path for path in sorted(chosen)]
    if lost := [path.as_posix() for path in starts if not (root / path).is_file()]:
        raise PipelineError(f"{root} has no {', '.join(lost)}, which the suite chooses today; move it to today's commit")
    return closure(starts, root, CUT)


def code_digest(params: Params, root: Path) -> str:
    """Hash what the files of :func:`code_files` do, whatever their comments, docstrings and layout."""
    return _sha256({path.as_posix(): _substance((root / path).read_text(encoding="utf-8")) for path in code_files(params, root)})


@lru_cache(maxsize=1024)
def _substance(source: str) -> str:
    """Hash the syntax tree of a source text without its docstrings; the same for every version of Python."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return _sha256(_plain(tree))


def _plain(node: Any) -> Any:
    if isinstance(node, ast.AST):
        return [type(node).__name__, {name: _plain(value) for name, value in ast.iter_fields(node) if value not in (None, [])}]
    return [_plain(each) for each in node] if isinstance(node, list) else repr(node)


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
