"""The how-tos of docs/ as they stand: their blocks are written, merged and run in a small copy of the demo, so that the text cannot rot."""

from __future__ import annotations

import ast
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from tiny_project import FEATURES, TINY, YAML_12, Project

from pipeline.datasets import read_index
from pipeline.features.store import FeatureStore
from pipeline.settings import merge

HOWTOS = ["howto-method.md", "howto-encoder.md", "howto-dataset.md"]
LIMIT = 60  # lines of new code
STEP = re.compile(
    r"^(?:(?P<verb>Create|Append to|Merge into) `(?P<path>[^`\n]+)`|In `(?P<into>[^`\n]+)`, after `(?P<anchor>[^`\n]+)`|Run):\n\n"
    r"```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FENCES = re.compile(r"^```\w+$", re.MULTILINE)
QUICK = {"recipe": {"learning_rate": 0.003, "batch_size": 4, "epochs": 2}}


@dataclass(frozen=True)
class Step:
    """One instruction of a how-to with its block."""

    verb: str
    path: str
    anchor: str
    text: str


def steps_of(path: Path) -> list[Step]:
    content = path.read_text(encoding="utf-8")
    found = [
        Step(
            match["verb"] or ("Insert" if match["into"] else "Run"),
            match["path"] or match["into"] or "",
            match["anchor"] or "",
            match["text"],
        )
        for match in STEP.finditer(content)
    ]
    assert len(found) == len(FENCES.findall(content)), f"{path}: a block without an instruction that this test knows"
    return found


def code_lines(text: str) -> int:
    """Lines that hold code: no blank lines, comments or docstrings."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    strings = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node) is not None]
    left_out = {number for node in strings for number in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and number not in left_out for number, line in lines)


class Copy(Project):
    """A demo as small as the tiny project, on its clips; the how-tos are followed one after the other, and what takes long is run last."""

    def prepare(self) -> None:
        with open(self.repository / "suites" / "demo.yaml", encoding="utf-8") as stream:
            params = YAML_12.load(stream)
        params["synth"]["demo"], params["media"] = TINY["synth"]["tiny"], TINY["media"]
        params["finetune"], params["features"] = {}, {"lite0_logmel": FEATURES}
        params["runs"] = {"avel": {**params["runs"]["avel"], "seeds": [0]}}
        self.write_params({**params, "methods": {"avel": {}}, "machine": {"seeds_at_once": 1}})
        (self.root / "data/raw/tiny").rename(self.root / "data/raw/demo")
        lock = self.root / "dvc.lock"
        lock.write_text(lock.read_text(encoding="utf-8").replace("tiny", "demo"), encoding="utf-8")
        shared = ["conftest.py", "wording.py", "object_store.py", "quick_starts.py", "quick_children.py"]
        for part in (*shared, "end_to_end", "methods", "encoders"):
            source, target = self.repository / "tests" / part, self.root / "tests" / part
            target.parent.mkdir(exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        shutil.copy2(self.repository / "pyproject.toml", self.root)

    def follow(self, step: Step) -> None:
        path = self.root / step.path
        if step.verb == "Create":
            assert not path.exists()
            path.parent.mkdir(exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
        elif step.verb == "Append to":
            path.write_text(path.read_text(encoding="utf-8") + step.text, encoding="utf-8")
        elif step.verb == "Insert":
            assert path.read_text(encoding="utf-8").count(step.anchor) == 1, f"{step.path}: {step.anchor}"
            path.write_text(path.read_text(encoding="utf-8").replace(step.anchor, f"{step.anchor}\n{step.text}"), encoding="utf-8")
        elif step.verb == "Merge into":
            with open(path, encoding="utf-8") as stream:
                params = merge(YAML_12.load(stream), YAML_12.load(step.text))
            params["methods"] = {name: merge(settings, QUICK) for name, settings in params["methods"].items()}
            self.write_params(params)


@dataclass
class Followed:
    """The copy after all three how-tos: what was run, what it and the contracts' tests said, the index of the demo before."""

    project: Copy
    stages: set[str]
    output: str
    table: str
    contracts: str
    index_before: pd.DataFrame


@pytest.fixture(scope="module")
def followed(tmp_path_factory, tiny) -> Followed:
    root = tmp_path_factory.mktemp("howto")
    tiny[0].copy_to(root)
    project = Copy(root, tiny[0].repository, tiny[0].programs)
    project.prepare()
    index, _ = read_index(project.root / "data/index")  # the how-tos start from a demo that has been run
    commands: list[str] = []
    for name in HOWTOS:
        for step in steps_of(project.repository / "docs" / name):
            project.follow(step)
            commands += step.text.strip().splitlines() if step.verb == "Run" else []
            if step.text.startswith("python annotations/"):
                project.run("bash", "-ec", commands.pop())
    contracts = [re.fullmatch(r"python -m pytest -q (\S+) -k (\w+)", command) for command in sorted(set(commands))]
    tests = [match for match in contracts if match]
    assert {"dvc repro", "python -m pipeline table"} == set(commands) - {match[0] for match in tests}
    assert len(tests) == 2
    stages, output = project.repro()
    table = project.run("python", "-m", "pipeline", "table")
    files, names = [match[1] for match in tests], " or ".join(match[2] for match in tests)
    project.environment["PYTEST_DEBUG_TEMPROOT"] = str(root)  # else it clears away what earlier calls of this suite left, for minutes
    contract = project.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", names)
    return Followed(project, stages, output, table, contract, index)


@pytest.mark.parametrize("name", HOWTOS)
def test_the_new_code_is_short(repository, name):
    steps = steps_of(repository / "docs" / name)
    assert {step.verb for step in steps} >= {"Create", "Merge into", "Run"}
    new = sum(code_lines(step.text) for step in steps if step.verb in ("Create", "Append to"))
    assert 20 < new < LIMIT


def test_a_method_is_added(followed):
    assert {"train@late_fusion", "evaluate@late_fusion", "report"} <= followed.stages
    assert re.search(r"\| late_fusion \| late_fusion \| lite0_logmel \| \*\*\d+\.\d\d\*\* ± \d+\.\d\d \(2\) \|", followed.table)
    report = followed.project.root / "data/results/report"
    films = {path.name for path in (report / "media").glob("*.mp4")}
    assert len(films) == TINY["synth"]["tiny"]["test_clips"]
    assert films <= set(re.findall(r"media/([\w-]+\.mp4)", (report / "index.html").read_text(encoding="utf-8")))


def test_an_encoder_is_added(followed):
    assert {"extract@lite0_logmel", "extract@colours", "train@avel_colours", "evaluate@avel_colours"} <= followed.stages
    assert re.search(r"\| avel_colours \| avel \| colours \| \*\*\d+\.\d\d\*\* \(1\) \|", followed.table)
    store = FeatureStore(followed.project.root / "data/features/colours")
    assert store.shapes["visual"] == (6, 6, 3)
    values = store.read("visual", list(store.index.index))
    assert values.shape == (len(followed.index_before), 10, 6, 6, 3)
    assert values.std() > 0.05


def test_both_keep_their_contracts(followed):
    passed = int(re.search(r"(\d+) passed", followed.contracts)[1])
    assert passed > 20
    assert "failed" not in followed.contracts


def test_a_data_set_is_added(followed):
    assert "index" in followed.stages
    assert "| avel | avel |" in followed.table
    after, classes = read_index(followed.project.root / "data/index")
    assert classes == sorted(classes)

    def facts(index: pd.DataFrame) -> set:
        return {
            (row.clip, row.split, row.sha256, tuple((e["label"], e["onset"], e["offset"]) for e in row.events))
            for row in index.itertuples()
        }

    assert facts(after) == facts(followed.index_before)
    assert len(facts(after)) == len(after)
