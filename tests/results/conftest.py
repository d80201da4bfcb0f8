"""A project with a suite of its own, and a finished clone of it whose runs were written by hand."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_project import FEATURES, TINY, YAML_12, copy_tree

from pipeline import closure
from pipeline.results.lock import page_of
from pipeline.results.written import mark
from tests.report.conftest import World, share

SUITE = "small"
RUN = {"task": "avel", "features": "f", "seeds": [0, 1], "overrides": {}}
PARAMS = {
    **TINY,
    "features": {"f": FEATURES},
    "runs": {"whole": {**RUN, "method": "avel"}, "part": {**RUN, "method": "avel"}, "cace": {**RUN, "method": "cace_net"}},
    "report": {"title": "Small world", "baseline": "whole", "comparisons": {"cace": ["part"]}},
    "machine": {"seeds_at_once": 3},
}
RIGHT = {"whole": {0: 30, 1: 34}, "part": {0: 28, 1: 24}, "cace": {0: 36, 1: 36}}  # of 40 segments, by seed
MACHINES = {"training": {"0": [{"processor": "Abacus", "threads": 1}], "1": [{"processor": "Abacus", "threads": 1}]}}
WORDS = {
    "README.md": "# Readme\n\n<!-- demo -->\n<!-- /demo -->\n",
    "docs/results.md": "# Results\n\n<!-- pages -->\n<!-- /pages -->\n\n<!-- short -->\n<!-- /short -->\n",
    "docs/speed.md": "# Speed\n\nIt took 1.5 s.\n",
    "docs/labels.md": "<!-- labels -->\n<!-- /labels -->\n",
    "docs/status.md": "<!-- matrix -->\n| method | demo world | realmix |\n|---|---|---|\n| `avel` | – | – |\n<!-- /matrix -->\n",
    "benchmarks/RESULTS.md": "It took 1.50 ± 0.25 s.\n",
}


def git(directory: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@t")
    return subprocess.run(["git", *who, *words], cwd=directory, check=True, capture_output=True, encoding="utf-8").stdout


def write_params(path: Path, params: dict, head: str = "# A small world.\n") -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(head)
        YAML_12.dump(params, stream)


@pytest.fixture(scope="module")
def _copies_import_alike() -> Iterator[None]:
    """The copies have the same files wherever a closure is asked for, so what a file imports hangs on its text alone."""
    imported = closure.imported
    kept: dict[tuple[Path, str], list[Path]] = {}

    def of_text(path: Path, root: Path = closure.ROOT) -> list[Path]:
        key = path, (root / path).read_text(encoding="utf-8")
        if key not in kept:
            kept[key] = imported(path, root)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closure, "imported", of_text)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, repository, _copies_import_alike) -> Path:
    """``project``, committed, and its finished clone ``clones/small``; never changed."""
    root = tmp_path_factory.mktemp("results")
    project, clone = root / "project", root / "clones" / SUITE
    for room in ("pipeline", "stages"):
        shutil.copytree(repository / room, project / room, ignore=shutil.ignore_patterns("__pycache__", "*.js", "*.css"))
    for name, text in WORDS.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    (project / "suites").mkdir()
    write_params(project / "suites" / f"{SUITE}.yaml", PARAMS)
    write_params(project / "params.yaml", PARAMS)
    mark(project)
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "start")
    git(project, "gc", "-q")
    git(root, "clone", "-q", str(project), str(clone))
    (clone / "data" / "results").mkdir(parents=True)
    world = World(clone / "data" / "results")
    (clone / "data" / "results" / "index").rename(clone / "data" / "index")
    for name, by_seed in RIGHT.items():
        tables = {seed: share(right) for seed, right in by_seed.items()}
        method = PARAMS["runs"][name]["method"]
        made_with = {"params": [], "machines": MACHINES}
        world.write_run(name, tables[0][0], {seed: table[1] for seed, table in tables.items()}, method=method, made_with=made_with)
        world.write_time(name, 0, 12.0)
        world.write_time(name, 1, 12.0)
    shutil.move(clone / "data" / "results" / "live", clone / "dvclive")
    return root


@pytest.fixture
def both(made, tmp_path) -> tuple[Path, Path]:
    """(the project, a copy to change; its finished clone, only to read)."""
    copy_tree(made / "project", tmp_path / "project")
    shutil.rmtree(tmp_path / "project/.git")
    return tmp_path / "project", made / "clones" / SUITE


@pytest.fixture
def page(both) -> Path:
    """The path of the suite's page."""
    return page_of(SUITE, both[0])
