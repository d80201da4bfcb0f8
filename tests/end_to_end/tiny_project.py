"""A copy of the project with a tiny world, run by DVC as a user would run it."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

PARTS = ["pipeline", "stages", "data", "models", ".dvc", "dvc.yaml", ".dvcignore", ".gitignore"]
YAML_12 = YAML(typ="safe")
YAML_12.default_flow_style = False
NARROW = {"learning_rate": 0.003, "batch_size": 4, "epochs": 3}

VISUAL = {"encoder": "efficientnet_lite0", "weights": "pretrained", "image_size": 64, "resize": 64}
FEATURES = {"visual": VISUAL, "audio": {"encoder": "logmel"}, "finetuned": "none", "dtype": "float16", "batch_size": 64, "device": "cpu"}
RUN = {"task": "avel", "seeds": [0, 1], "overrides": {}}
TINY = {
    "synth": {"tiny": {"seed": 3, "train_clips": 8, "val_clips": 2, "test_clips": 4, "picture_size": 64}},
    "dataset": {"kind": "ave", "clips": "data/raw/tiny/clips", "annotations": "data/raw/tiny", "segments": 10, "segment_seconds": 1.0},
    "media": {"frames_per_second": 1, "workers": 1},
    "finetune": {},
    "features": {"first": FEATURES, "second": {**FEATURES, "visual": {**VISUAL, "pool": "average"}}},
    "imports": {},
    "labels": {},
    "methods": {
        "avel": {"attention_width": 16, "recurrent_width": 8, "classifier_width": 8, "recipe": NARROW},
        "cace_net": {"visual_hidden": 16, "width": 16, "lambda_contrast": 0.6, "recipe": NARROW},
    },
    "train": {"device": "cpu", "checkpoint_seconds": 0},
    "runs": {
        "avel_first": {**RUN, "method": "avel", "features": "first"},
        "avel_second": {**RUN, "method": "avel", "features": "second"},
        "cace_first": {**RUN, "method": "cace_net", "features": "first"},
    },
    "report": {"title": "Tiny", "baseline": "avel_first", "gallery": 0},  # clips stand in the page of tests/howto
    "cache": {"dir": None},
}
STAGES = {
    *("plan", "synthesize@tiny", "index", "decode", "extract@first", "extract@second", "report"),
    *(f"{stage}@{run}" for stage in ("train", "evaluate") for run in TINY["runs"]),
}
TIMED = {f"data/results/report/{name}" for name in ("table.md", "table.tex", "table.csv", "index.html")}  # they tell the training time


def leave_out(directory: str, names: list[str]) -> set[str]:
    """What the stages and DVC have made in the real project: caches, outs; byte code is as good in the copy, whose files are as old."""
    left: set[str] = set()
    path = Path(directory)
    below = {("data", "results"), ("models", "encoders"), ("results", "runs")}  # pipeline/results is code
    if path.name in {".dvc", "data", "models"} or path.parts[-2:] in below:
        tracked = {"README.md", "config", "plots", "results", "pretrained", "encoders", "none", ".gitignore"}
        tracked |= {"runs"} if path.name == "results" else set()
        left |= set(names) - tracked
    return left


def copy_tree(source: Path, target: Path) -> None:
    """Copy what is in ``source`` into ``target``, links as links, in a tenth of the time that Python takes for two thousand files."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


class Project:
    """A working copy, its own cache, and the commands a user types; one that stands in ``root`` already is taken as it is.

    Args:
        programs: `python` and `dvc` as :mod:`warm` makes them, which commands get.
    """

    def __init__(self, root: Path, repository: Path, programs: Path) -> None:
        self.root, self.repository, self.programs = root / "project", repository, programs
        if not self.root.exists():
            self.root.mkdir(parents=True)
            for part in PARTS:
                source = repository / part
                copy = shutil.copytree if source.is_dir() else shutil.copy2
                copy(source, self.root / part, **({"ignore": leave_out} if source.is_dir() else {}))
        self.cache = root / "cache"
        settings = {"OMP_NUM_THREADS": "1", "AVEL_CACHE": str(self.cache), "PYTHONDONTWRITEBYTECODE": ""}  # each stage is a new process
        self.environment = {**os.environ, **settings, "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.environment |= {f"GIT_{who}_{what}": "test@test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def copy_to(self, root: Path) -> Project:
        """A copy of the project and its cache as they are now, to change at will."""
        copy_tree(self.root.parent, root)
        return Project(root, self.repository, self.programs)

    def write_params(self, params: dict) -> None:
        with open(self.root / "params.yaml", "w", encoding="utf-8") as stream:
            YAML_12.dump(params, stream)

    def run(self, *command: str, code: int | None = 0) -> str:
        """Output of a command, stdout and stderr together."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
        done = subprocess.run(command, cwd=self.root, env=self.environment, check=False, **streams)
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def commit(self) -> None:
        self.run("git", "init", "-q")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "start")
        self.run("git", "gc", "-q")  # one file to copy, not six hundred

    def edit(self, path: str, addition: str = "# edited\n") -> None:
        """Append to a file of the project's code."""
        assert (self.root / path).is_file()
        with open(self.root / path, "a", encoding="utf-8") as stream:
            stream.write(addition)

    def repro(self, *targets: str) -> tuple[set[str], str]:
        """(stages that ran, output) of `dvc repro`."""
        output = self.run("dvc", "repro", *targets)
        return set(re.findall(r"Running stage '([^']+)'", output)), output

    def kill_when(self, condition, *command: str, seconds: float = 180) -> None:
        """Start a command; kill it, children and all, with SIGKILL as soon as ``condition()`` holds."""
        process = subprocess.Popen(
            command, cwd=self.root, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        end = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, "the command ended before it could be killed"
            assert time.monotonic() < end, "the moment to kill did not come"
            time.sleep(0.005)
        os.killpg(process.pid, 9)
        process.wait()
        while self.at_work():
            time.sleep(0.005)

    def at_work(self) -> bool:
        """Whether any other process has the project for its working directory."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if (process / "cwd").readlink() == self.root and process.name != str(os.getpid()):
                    return True
        return False

    def outs(self) -> dict[str, bytes]:
        """Every published file by its path."""
        roots = [self.root / "data", self.root / "models" / "encoders", self.root / "models" / "runs"]
        files = [path for root in roots for path in root.rglob("*") if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files if path.name != ".gitignore"}


def without_times(path: str, content: bytes, runs: int = len(TINY["runs"])) -> object:
    """A report's file but for the seconds, minutes and hours of training in it, one of each run."""
    text = content.decode()
    if path.endswith(".csv"):
        lines = list(csv.DictReader(io.StringIO(text)))
        assert all(float(line.pop("seconds")) > 0 for line in lines)
        return lines
    untimed, count = re.subn(r"\b\d+\.\d s\b|\b\d+ min \d\d s\b", "TIME", text)
    assert count == runs, f"{path}: a training time for each run"
    return untimed
