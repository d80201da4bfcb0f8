"""README.md and docs/: links lead somewhere, named files and commands exist, Python blocks run, the matrix of methods is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.methods import METHODS
from pipeline.report.published import read_published_file
from pipeline.tasks import TASKS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CHANGELOG.md", *sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").rglob("*.md"))]
GUIDES = [page for page in PAGES if not page.startswith("docs/howto-")]  # tests/howto runs the others step by step
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:pipeline|stages|suites|docs|tests|benchmarks)/[\w./-]+)`")
SUITE = re.compile(r"\bsuites/[\w-]+\.yaml")
OF_THE_USER = {"suites/mine.yaml"}
COMMAND = re.compile(r"python -m (pipeline|stages|benchmarks)[ .]([a-z][a-z_-]*)")
GOLDENS = REPOSITORY / "tests" / "released" / "goldens"


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def without_table(text: str) -> str:
    """README without what stands between the marks of the demo table, which the report writes."""
    return re.sub(r"<!-- demo -->.*<!-- /demo -->", "", text, flags=re.DOTALL)


def anchors(page: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 120
    assert [line for line in without_table(text_of("README.md")).splitlines() if len(line) > 120] == []


def test_a_setting_that_the_guides_change_by_S_stands_in_every_suite_of_its_method():
    """DVC refuses to change a setting that params.yaml does not name."""
    settings = {tuple(setting.split(".")) for page in PAGES for setting in re.findall(r"-S ([\w.]+)=", text_of(page))}
    assert settings
    for block, name, *rest in settings:
        checked = 0
        for path in sorted((REPOSITORY / "suites").glob("*.yaml")):
            place = YAML(typ="safe").load(path.read_text(encoding="utf-8"))[block]
            if name in place:
                checked += 1
                for key in (name, *rest):
                    assert key in place, f"{path.name}: {'.'.join((block, name, *rest))}"
                    place = place[key]
        assert checked > 3


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in LINK.findall(text_of(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(REPOSITORY))), link


def test_every_page_is_linked_from_the_readme_or_from_a_page_that_it_links():
    links = {page: {target for link in LINK.findall(text_of(page)) if (target := target_of(page, link))} for page in PAGES}
    near = links["README.md"]
    assert {*PAGES} - near - {target for page in near & links.keys() for target in links[page]} - {"README.md"} == set()


def target_of(page: str, link: str) -> str | None:
    """The file that a link of a page leads to, below the repository; None for others."""
    path = (REPOSITORY / page).parent / link.partition("#")[0]
    return path.resolve().relative_to(REPOSITORY).as_posix() if path.is_file() else None


@pytest.mark.parametrize("page", GUIDES)
def test_named_files_exist(page):
    named = {*NAMED.findall(text_of(page)), *SUITE.findall(text_of(page))} - OF_THE_USER
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_named_commands_exist():
    named = {match for page in PAGES for match in COMMAND.findall(text_of(page))}
    assert {("pipeline", "predict"), ("stages", "train")} <= named
    usage = subprocess.run([sys.executable, "-m", "pipeline", "--help"], cwd=REPOSITORY, capture_output=True, encoding="utf-8", check=True)
    known = set(re.findall(r"^ {4}([a-z][a-z-]*)(?: |$)", usage.stdout, re.MULTILINE))
    assert {command for package, command in named if package == "pipeline"} <= known
    assert [name for name in named if name[0] != "pipeline" and not (REPOSITORY / name[0] / f"{name[1]}.py").is_file()] == []


BLOCKS = [(page, block) for page in GUIDES if page != "docs/python.md" for block in PYTHON.findall(text_of(page))]


@pytest.mark.parametrize(("page", "block"), [pytest.param(*case, id=case[0]) for case in BLOCKS if "load_run" not in case[1]])
def test_python_blocks_run(page, block, capsys):
    """Those that load a trained run are run in tests/predict, where there is one, and so is docs/python.md."""
    exec(compile(block, page, "exec"), {})
    assert "torch.Size([2, 10, 29])" in capsys.readouterr().out


# The matrix of docs/status.md


def matrix() -> dict[str, dict[str, str]]:
    """By method: the cells of its line by the heading of their column."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text_of("docs/status.md").splitlines() if line[:1] == "|"]
    heading, _, *rest = lines
    return {cells[0].strip("`"): dict(zip(heading[1:], cells[1:], strict=True)) for cells in rest}


def verified(cells: dict[str, str]) -> list[str]:
    return re.findall(r"`([^`]+)`", cells["equal to released code"])


def test_the_matrix_names_every_method_and_its_tasks():
    assert {name: set(re.findall(r"`(\w+)`", cells["task"])) for name, cells in matrix().items()} == {
        name: set(METHODS.get(name).tasks) for name in METHODS.names()
    }


def test_what_is_said_to_equal_released_code_has_its_numbers():
    """Every network of the goldens is that of a method that claims it, and no other claims one."""
    networks: dict[str, set[str]] = {}
    for path in GOLDENS.glob("a*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            networks[path.name] = {"cace_net" if path.name == "avel_cace.npz" else key.split("/")[0] for key in arrays}
    for method, cells in matrix().items():
        claimed = verified(cells)
        assert all((GOLDENS / name).is_file() for name in claimed), method
        held = {name for name, keys in networks.items() if any(key == method or key.startswith(f"{method}_") for key in keys)}
        assert held == set(claimed) - {"denoise.npz"}, method


def test_one_version_stands_everywhere_and_the_three_papers_are_cited():
    stated = tomllib.loads(text_of("pyproject.toml"))["project"]
    citation = YAML(typ="safe").load(text_of("CITATION.cff"))
    assert re.findall(r"^## \[([^\]]+)\]", text_of("CHANGELOG.md"), re.MULTILINE)[0] == stated["version"] == citation["version"]
    assert (citation["title"], citation["license"]) == (stated["name"], stated["license"])
    papers = read_published_file().papers
    assert {paper["title"] for paper in citation["references"]} == {papers[name].title for name in ("cace_net", "coleaf", "ccln")}
    assert all(paper["type"] and paper["authors"] for paper in citation["references"])


def test_the_readme_counts_right():
    equal = sum(bool(verified(cells)) for cells in matrix().values())
    assert f"{len(METHODS.names())} methods of {len(TASKS.names())} tasks" in text_of("README.md")
    assert f"{equal} of them equal" in " ".join(text_of("README.md").split())


def test_the_network_of_the_readme_is_the_papers():
    """With the shapes of AVE's published features the README builds the paper's network, parameter by parameter."""
    block = next(block for page, block in BLOCKS if page == "README.md" and "create" in block)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    released, never_used = 13_118_681, 3_835_264
    assert sum(parameter.numel() for parameter in names["network"].parameters()) == released - never_used


def test_the_container_holds_every_file_of_the_repository_and_the_job_is_a_script():
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()
    assert len(tracked) > 300
    assert [name for name in tracked if any(PurePosixPath(part).match(line) for line in lines for part in parents(name))] == []
    for file in re.findall(r"^COPY (\S+) \./$", (REPOSITORY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE):
        assert file in tracked
    job = REPOSITORY / "docs/slurm.sbatch"
    subprocess.run(["bash", "-n", job], check=True)
    assert {*re.findall(r"python -m pipeline (\w+)", job.read_text(encoding="utf-8"))} == {"doctor", "use", "table"}


@pytest.mark.parametrize("arguments", [["decode"], ["extract", "first"]])
def test_a_job_of_the_array_takes_its_share(arguments, tmp_path):
    """The script runs as SLURM starts it, with a `python` that prints what it was asked for."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "8"}
    command = ["bash", str(REPOSITORY / "docs/slurm-array.sbatch"), *arguments]
    said = subprocess.run(command, env={**os.environ, **slurm}, capture_output=True, encoding="utf-8", check=True).stdout
    assert said.split() == ["-m", f"stages.{arguments[0]}", *arguments[1:], "--shard", "2/8"]


def parents(name: str) -> list[str]:
    """A path and the directories that hold it."""
    return [name, *map(str, PurePosixPath(name).parents)][:-1]
