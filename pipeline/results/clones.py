"""Run a suite in a clone of its own, at the checkout's commit, and resume it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import PipelineError
from pipeline.git import changed_files, commit_of, git
from pipeline.publish import write_text

PARAMS = "params.yaml"
TIME = "wall-time.json"  # in the clone: seconds, calls
WORDS = ("README.md", "CHANGELOG.md", "docs/", "tests/")  # of a checkout: may differ from its commit, because they change no number
NOTE_SECONDS = 10.0  # between notes of the wall time, of which a killed call loses the last


def check_committed(root: Path) -> None:
    """Check that the clones, which hold what is committed, will hold this checkout's code.

    Raises:
        PipelineError: it is no git checkout, or tracked files differ from the commit.
    """
    if changed := [path for path in changed_files(root) if path != PARAMS and not path.startswith(WORDS)]:
        shown = ", ".join(changed[:5]) + (" ..." if len(changed) > 5 else "")
        raise PipelineError(f"results are made of what is committed, and these files differ from HEAD: {shown}; commit or restore them")


@contextmanager
def only_call(clone: Path) -> Iterator[int]:
    """Hold a suite's lock, and give its descriptor.

    A `dvc repro` that gets the descriptor holds the lock on if this process is killed.

    Raises:
        PipelineError: another call holds it.
    """
    clone.parent.mkdir(parents=True, exist_ok=True)
    with open(clone.parent / f".{clone.name}.lock", "w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError(f"{clone} is being made by another call, or by the `dvc repro` of a killed one; wait for it") from None
        yield stream.fileno()


def prepare(suite: str, clone: Path, root: Path, seeds_at_once: int | None) -> None:
    """Clone the checkout ``root`` at its commit, or move an older clone there, with the suite as params.yaml.

    Args:
        seeds_at_once: in place of the suite's ``machine.seeds_at_once``, which changes no number.

    Raises:
        PipelineError: the directory is something else, or holds changes of the user's.
    """
    link_shared(clone.parent, root)
    if (clone / ".git").exists():
        if changed := [path for path in changed_files(clone) if path != PARAMS]:
            raise PipelineError(f"{clone} holds changes of yours ({', '.join(changed[:5])}); restore them, or choose another --directory")
        if commit_of(clone) != commit_of(root):
            git(clone, "fetch", "--quiet", str(root), "HEAD")
            git(clone, "reset", "--quiet", "--hard", "FETCH_HEAD")
    elif clone.exists() and any(clone.iterdir()):
        raise PipelineError(f"{clone} is no clone of this project, and is left alone; choose another --directory")
    else:
        git(root, "clone", "--quiet", str(root), str(clone.absolute()))
    settings = (root / "suites" / f"{suite}.yaml").read_text(encoding="utf-8")
    (clone / PARAMS).write_text(settings, encoding="utf-8")
    if seeds_at_once is not None:
        _set_seeds_at_once(clone / PARAMS, seeds_at_once)


def link_shared(directory: Path, root: Path) -> None:
    """Let ``../shared``, where suites find data of the user's, lead to the same place from a clone."""
    shared, link = root.resolve().parent / "shared", directory / "shared"
    directory.mkdir(parents=True, exist_ok=True)
    if shared.is_dir() and not os.path.lexists(link):
        link.symlink_to(shared)


def repro(clone: Path, lock: int) -> None:
    """Run `dvc repro` in a clone, and add its wall time to that of earlier calls, finished or not.

    All is computed on the CPU, training and encoding on one thread each, because the digits depend on it.

    Args:
        lock: descriptor of the suite's lock.

    Raises:
        PipelineError: it failed; DVC's own words are on the terminal.
    """
    before, started = read_time(clone), time.monotonic()
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([sys.executable, "-m", "dvc", "repro"], cwd=clone, env=environment, pass_fds=[lock], start_new_session=True)

    def note() -> None:
        taken = {"seconds": round(before["seconds"] + time.monotonic() - started, 3), "calls": before["calls"] + 1}
        write_text(clone / TIME, json.dumps(taken) + "\n")

    try:
        while process.poll() is None:
            note()
            try:
                process.wait(NOTE_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        note()
    except BaseException:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C would: the stage at work keeps what is finished
        process.wait()
        note()
        raise
    if process.returncode:
        raise PipelineError(f"`dvc repro` in {clone} ended with code {process.returncode}; its reasons stand above")


def read_time(clone: Path) -> dict[str, Any]:
    """Wall time of `dvc repro` in a clone so far: ``seconds``, over ``calls``."""
    path = clone / TIME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"seconds": 0.0, "calls": 0}


def unfinished(clone: Path) -> str:
    """Why a clone's results are not those of its code and params; empty if they are."""
    if not (clone / ".git").exists():
        return f"there is no clone {clone}"
    if changed := [path for path in changed_files(clone) if path != PARAMS]:
        return f"{clone} differs from its commit: {', '.join(changed[:5])}"
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], cwd=clone, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        return f"`dvc status` in {clone}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
    changed = sorted(json.loads(done.stdout or "{}"))
    return f"`dvc repro` in {clone} has work left: {', '.join(changed[:5])}{' ...' * (len(changed) > 5)}" if changed else ""


def _set_seeds_at_once(path: Path, number: int) -> None:
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 1000, True
    content = yaml.load(path.read_text(encoding="utf-8"))
    content.setdefault("machine", {})["seeds_at_once"] = number
    with open(path, "w", encoding="utf-8") as stream:
        yaml.dump(content, stream)
