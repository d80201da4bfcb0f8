"""A tiny project with every stage, and a `dvc repro` of it to watch and kill, for benchmarks/kills.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from tests.end_to_end.tiny_project import FEATURES, NARROW, RUN, TINY, Project

REPOSITORY = Path(__file__).resolve().parents[1]
LOOK_SECONDS, PATIENCE_SECONDS = 0.05, 300.0
EYE = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 64, "resize": 64}
PUBLISHED = {"visual": {"file": "visual.npy", "shape": [3, 3, 8]}, "audio": {"file": "audio.npy", "shape": [6]}}
CLIPS = {"train_clips": 8, "val_clips": 2, "test_clips": 4}
PARAMS = {
    **TINY,
    "synth": {"tiny": {**TINY["synth"]["tiny"], **CLIPS}},
    "media": {"frames_per_second": 1, "workers": 2},
    "finetune": {
        "eye": {
            "visual": EYE, "audio": {"encoder": "logmel"}, "train_last": 1, "width": 8, "epochs": 2, "head_epochs": 1, "batch_size": 4,
            "batch_norm": "frozen", "device": "cpu", "threads": 1, "checkpoint_seconds": 0,
        }
    },
    "features": {"first": FEATURES, "tuned": {**FEATURES, "visual": {**EYE, "weights": "finetuned/eye"}, "finetuned": "eye"}},
    "labels": {},
    "imports": {"published": {"directory": "published", **PUBLISHED}},
    "methods": {**TINY["methods"], "avel": {**TINY["methods"]["avel"], "recipe": {**NARROW, "epochs": 6}}},
    "runs": {
        "avel_first": {**RUN, "method": "avel", "features": "first"},
        "avel_published": {**RUN, "method": "avel", "features": "published"},
        "cace_tuned": {**RUN, "method": "cace_net", "features": "tuned"},
    },
}  # fmt: skip
STAGES = {
    *("plan", "synthesize@tiny", "index", "decode", "finetune@eye"),
    *("extract@first", "extract@tuned", "import_features@published", "report"),
    *(f"{stage}@{run}" for stage in ("train", "evaluate") for run in PARAMS["runs"]),
}


def open_project(root: Path) -> Project:
    """Open the tiny project in ``root``, or create it: committed, with published features, its cache and temporary files."""
    if not (root / "project" / ".git").exists():
        shutil.rmtree(root, ignore_errors=True)
    project = Project(root, REPOSITORY)
    project.environment["TMPDIR"] = str(root / "temporary")
    if (project.root / ".git").exists():
        return project
    (root / "temporary").mkdir()
    (project.root / "published").mkdir()
    for source in PUBLISHED.values():
        values = np.random.default_rng(0).random((sum(CLIPS.values()), TINY["dataset"]["segments"], *source["shape"]), np.float32)
        np.save(project.root / "published" / source["file"], values)
    project.write_params(PARAMS)
    project.commit()
    return project


def session(number: int) -> list[psutil.Process]:
    """The living processes of a session, which may have outlived its leader."""

    def belongs(process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    return [process for process in psutil.process_iter() if belongs(process)]


def running_stage(processes: list[psutil.Process]) -> tuple[str, psutil.Process] | None:
    """Name and process of the stage among the processes; None if there is none."""
    for process in processes:
        try:
            command = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if command[1:2] == ["-m"] and command[2].startswith("stages."):
            return (command[3] if len(command) > 3 else command[2].removeprefix("stages.")), process
    return None


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_SECONDS)
    return True


class Start:
    """One `dvc repro` in its own session, with its output in a file."""

    def __init__(self, project: Project, log: Path) -> None:
        self.log = log
        with open(log, "wb") as stream:
            self.process = subprocess.Popen(
                ["dvc", "repro"], cwd=project.root, env=project.environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.began = time.monotonic()

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stages(self) -> list[str]:
        """The stages begun so far."""
        return re.findall(r"Running stage '([^']+)'", self.output)

    def until(self, moment: Callable[[list[str], float], float]) -> bool:
        """Wait until the time returned by ``moment(stages begun, now)``; False if the process ended before that."""
        while self.process.poll() is None:
            now = time.monotonic()
            if now >= moment(self.stages(), now):
                return True
            if now > self.began + PATIENCE_SECONDS:
                raise SystemExit(f"a start did not end in {PATIENCE_SECONDS:g} s: {self.log}")
            time.sleep(LOOK_SECONDS)
        return False


def undisturbed(project: Project, log: Path) -> dict[str, float]:
    """Run everything without a kill; returns the seconds of each stage."""
    start, began = Start(project, log), {}

    def look(stages: list[str], now: float) -> float:
        for stage in stages:
            began.setdefault(stage, now)
        return float("inf")

    start.until(look)
    moments = [*began.values(), time.monotonic()]
    seconds = {stage: after - before for stage, before, after in zip(began, moments, moments[1:], strict=False)}
    if start.process.returncode or set(seconds) != STAGES:
        raise SystemExit(f"the undisturbed run failed: {log}")
    return seconds


def files(project: Project) -> list[str]:
    """List the project's files and directories, its cache and temporary files, without git's, DVC's, locks and byte code."""
    root = project.root.parent
    found = (path.relative_to(root) for path in root.rglob("*"))
    return sorted(str(path) for path in found if not {".git", ".dvc", ".locks", "__pycache__"} & set(path.parts))


def start_over(project: Project) -> None:
    """Remove everything not committed, and the caches."""
    project.run("git", "clean", "-fdxq")
    for directory in (project.cache, Path(project.environment["TMPDIR"])):
        shutil.rmtree(directory, ignore_errors=True)
    Path(project.environment["TMPDIR"]).mkdir()
