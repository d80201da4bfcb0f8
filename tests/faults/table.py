"""Which tests hold which fault of docs/faults.md, by their marks: read from the sources, and written into the table there.

``python -m tests.faults.table`` rewrites the last column of the table.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "faults.md"
FAULTS = range(1, 43)
LINE = re.compile(r"^\| (\d+) \| (.+?) \| (.*?) \|$", re.MULTILINE)
SKIPS = {"skip", "skipif", "xfail", "importorskip"}


@dataclass(frozen=True)
class Held:
    """A test that is marked as holding a fault.

    file: from tests/, e.g. ``media/test_tracks.py``.
    always: nothing in its marks, its module, its body or its fixtures may skip it.
    never: it is skipped, or expected to fail, whatever the machine.
    """

    file: str
    test: str
    always: bool
    never: bool


@cache
def held() -> dict[int, list[Held]]:
    """The marked tests of every fault that has any, in the order of files and lines."""
    trees = {path.relative_to(TESTS).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(TESTS.rglob("*.py"))}
    skipping = skipping_fixtures([node for tree in trees.values() for node in functions(tree)])
    found = defaultdict(list)
    for file, tree in trees.items():
        of_module = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
        module_skips, module_never_runs = any(map(may_skip, of_module)), any(map(is_skip_mark, of_module))
        for function in functions(tree):
            for number in numbers(function):
                maybe = module_skips or may_skip(function) or not skipping.isdisjoint(asked_for(function))
                found[number].append(Held(file, function.name, not maybe, never_runs(function) or module_never_runs))
    return dict(found)


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Those of the module itself: tests and fixtures here are in no class."""
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def numbers(function: ast.FunctionDef) -> Iterator[int]:
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
            yield from (ast.literal_eval(argument) for argument in mark.args)


def asked_for(function: ast.FunctionDef) -> set[str]:
    """The names of its fixtures."""
    named = {argument.arg for argument in function.args.args}
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.usefixtures":
            named |= {ast.literal_eval(argument) for argument in mark.args}
    return named


def may_skip(node: ast.AST) -> bool:
    """Whether it calls pytest.skip or one of its like, or is marked so."""
    return any(isinstance(part, ast.Attribute) and part.attr in SKIPS and "pytest" in ast.unparse(part) for part in ast.walk(node))


def never_runs(function: ast.FunctionDef) -> bool:
    """Marked ``skip`` or ``xfail``, or its body begins by skipping."""
    begins = [node for node in function.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    calls = {ast.unparse(node.value.func) for node in begins if isinstance(node.value, ast.Call)}
    return any(map(is_skip_mark, function.decorator_list)) or not calls.isdisjoint({"pytest.skip", "pytest.xfail"})


def is_skip_mark(node: ast.AST) -> bool:
    return bool(re.search(r"pytest\.mark\.(skip|xfail)\b|pytest\.mark\.skipif\(True\b", ast.unparse(node)))


def skipping_fixtures(every: list[ast.FunctionDef]) -> set[str]:
    """Names of fixtures that may skip, or ask for one that may."""
    fixtures = [function for function in every if any("pytest.fixture" in ast.unparse(mark) for mark in function.decorator_list)]
    names = {fixture.name for fixture in fixtures if may_skip(fixture)}
    while True:
        more = {fixture.name for fixture in fixtures if not names.isdisjoint(asked_for(fixture))} | names
        if more == names:
            return names
        names = more


def rendered(text: str) -> str:
    """The page with the last column of its table as the marks have it."""
    marked = held()
    return LINE.sub(lambda line: f"| {line[1]} | {line[2]} | {column(marked.get(int(line[1]), []))} |", text)


def column(tests: list[Held]) -> str:
    """The tests by file: ``media/test_tracks.py``: a, b."""
    files: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        files[test.file].append(test.test.removeprefix("test_"))
    return "<br>".join(f"`{file}`: {', '.join(names)}" for file, names in files.items())


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
