"""A suite in a clone: cloned, moved along, run, interrupted and resumed, with a `dvc` that does what the test says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from ruamel.yaml import YAML

from pipeline.errors import PipelineError
from pipeline.git import commit_of
from pipeline.results.clones import check_committed, only_call, prepare, read_time, repro, unfinished
from tests.results.conftest import git

SUITE = "# words\nmachine:\n  seeds_at_once: 3  # at most\ntrain: {device: cpu}\n"
# `python -m dvc` finds it first. It works until `stop` appears, as a stage would, or until Ctrl-C.
DVC = """
import json, os, pathlib, sys, time
if sys.argv[1] == "status":
    print(pathlib.Path("left.json").read_text() if os.path.exists("left.json") else "{}")
    sys.exit()
pathlib.Path("asked").write_text(" ".join(sys.argv[1:]) + " " + os.environ["OMP_NUM_THREADS"] + os.environ["CUDA_VISIBLE_DEVICES"])
try:
    while not os.path.exists("stop"):
        time.sleep(0.01)
except KeyboardInterrupt:
    pathlib.Path("interrupted").touch()
    sys.exit(130)
sys.exit(int(pathlib.Path("stop").read_text()))
"""


@pytest.fixture
def root(tmp_path):
    """A project, as small as one can be."""
    root = tmp_path / "project"
    for name, text in {"suites/s.yaml": SUITE, "params.yaml": "{}\n", "dvc.py": DVC, "docs/a.md": "a\n", "README.md": "r\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "start")
    return root


@pytest.fixture
def clone(root, tmp_path):
    prepare("s", tmp_path / "clones" / "s", root, None)
    return tmp_path / "clones" / "s"


def test_a_clone_is_at_the_checkout_s_commit_with_the_suite_as_params(root, clone, tmp_path):
    assert (clone / "params.yaml").read_text(encoding="utf-8") == SUITE
    assert commit_of(clone) == commit_of(root)
    prepare("s", clone, root, 1)
    assert YAML(typ="safe").load(clone / "params.yaml") == {"machine": {"seeds_at_once": 1}, "train": {"device": "cpu"}}
    assert "# at most" in (clone / "params.yaml").read_text(encoding="utf-8")
    (clone / "dvc.lock").write_text("what DVC knows\n", encoding="utf-8")
    (root / "new.py").write_text("1\n", encoding="utf-8")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "more")
    prepare("s", clone, root, None)
    assert commit_of(clone) == commit_of(root)
    assert (clone / "new.py").is_file()
    assert (clone / "dvc.lock").read_text(encoding="utf-8") == "what DVC knows\n"
    assert (clone / "params.yaml").read_text(encoding="utf-8") == SUITE


def test_the_data_beside_the_checkout_are_beside_the_clones(root, tmp_path):
    (tmp_path / "shared").mkdir()
    prepare("s", tmp_path / "clones" / "s", root, None)
    assert (tmp_path / "clones" / "s" / ".." / "shared").samefile(tmp_path / "shared")


def test_nothing_of_the_user_s_is_overwritten(root, clone, tmp_path):
    (clone / "dvc.py").write_text("mine\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"changes of yours.*dvc\.py"):
        prepare("s", clone, root, None)
    assert "dvc.py" in unfinished(clone)
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    with pytest.raises(PipelineError, match="left alone"):
        prepare("s", other, root, None)
    assert [path.name for path in other.iterdir()] == ["file"]


def test_only_what_is_committed_is_run(root, tmp_path):
    for path in ("params.yaml", "README.md", "docs/a.md"):
        (root / path).write_text("other: 1\n", encoding="utf-8")
    check_committed(root)
    (root / "suites/s.yaml").write_text("other: 1\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"suites/s\.yaml.*commit"):
        check_committed(root)
    (tmp_path / "bare").mkdir()
    with pytest.raises(PipelineError, match="git"):
        check_committed(tmp_path / "bare")


def test_a_run_is_timed_over_all_its_calls(clone):
    with only_call(clone) as lock:
        (clone / "stop").write_text("0", encoding="utf-8")
        repro(clone, lock)
        assert (clone / "asked").read_text(encoding="utf-8") == "repro 1"  # one thread, no GPU
        first = read_time(clone)
        (clone / "stop").write_text("3", encoding="utf-8")
        with pytest.raises(PipelineError, match="code 3"):
            repro(clone, lock)
    second = read_time(clone)
    assert (first["calls"], second["calls"]) == (1, 2)
    assert 0 < first["seconds"] <= second["seconds"]


def test_an_interrupted_call_interrupts_dvc_and_keeps_its_time(clone, hears_ctrl_c):
    def interrupt():
        while not (clone / "asked").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with only_call(clone) as lock, pytest.raises(KeyboardInterrupt):
        repro(clone, lock)
    thread.join()
    assert (clone / "interrupted").exists()
    assert read_time(clone)["seconds"] > 0
    assert read_time(clone)["calls"] == 1


def test_a_clone_is_held_until_the_dvc_of_a_killed_call_has_ended(clone):
    with only_call(clone) as lock:
        left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock])
    with pytest.raises(PipelineError, match="wait for it"), only_call(clone):
        pass
    left.communicate(b"\n")
    with only_call(clone):
        pass


def test_a_clone_with_work_left_is_not_finished(clone, tmp_path):
    assert unfinished(clone) == ""
    (clone / "left.json").write_text(json.dumps({"train@a": ["changed deps"], "plan": []}), encoding="utf-8")
    assert "plan, train@a" in unfinished(clone)
    assert "no clone" in unfinished(tmp_path / "nothing")
