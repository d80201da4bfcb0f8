"""Jobs are Python expressions for ``eval``: importable in any child, and able to do anything a broken decoder does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.children import Nursery
from pipeline.errors import PipelineError
from pipeline.media.guard import Crashed, Failed, TimedOut, run_guarded

LIMITS = {"timeout_seconds": 20.0, "memory_mb": 512}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _as_users_start(monkeypatch):
    """Without what makes children quick in other tests."""
    monkeypatch.setattr("pipeline.media.guard.Nursery", Nursery)


def test_every_job_has_one_outcome():
    jobs = [f"{n} * {n}" for n in range(25)]
    outcomes = dict(run_guarded(eval, jobs, workers=2, **LIMITS))
    assert outcomes == {f"{n} * {n}": n * n for n in range(25)}


def test_no_jobs_start_nothing():
    assert list(run_guarded(eval, [], workers=2, **LIMITS)) == []


@pytest.mark.parametrize(
    ("job", "kind", "words"),
    [
        ("__import__('os')._exit(3)", Crashed, "code 3"),
        ("__import__('ctypes').string_at(0)", Crashed, "SIGSEGV"),
        ("__import__('os').abort()", Crashed, "SIGABRT"),
        ("bytearray(4 * 2**30)", Failed, "MemoryError"),
        ("1 / 0", Failed, "ZeroDivisionError"),
        ("(n for n in ())", Failed, "pickle"),
    ],
)
@pytest.mark.fault(8)
def test_a_failure_is_reported_and_the_next_job_runs(job, kind, words):
    outcomes = list(run_guarded(eval, [job, "6 * 7"], workers=1, **LIMITS))
    assert [name for name, _ in outcomes] == [job, "6 * 7"]
    assert type(outcomes[0][1]) is kind
    assert words in outcomes[0][1].reason
    assert outcomes[1][1] == 42


def test_arrays_come_in_shared_memory_and_outlive_the_child():
    handed = "__import__('pipeline.media.handed', fromlist=['Handed']).Handed"
    made = handed + "({}, {{'a': __import__('numpy').arange({}).reshape(2, -1), 'b': {}}})"
    jobs = [made.format(7, 200_000, "__import__('numpy').float32([1.5])"), made.format(8, 4, "__import__('numpy').zeros((0, 3))")]
    first, second = (outcome for _, outcome in run_guarded(eval, jobs, workers=1, **LIMITS))
    assert (first.content, second.content) == (7, 8)
    np.testing.assert_array_equal(first.arrays["a"], np.arange(200_000).reshape(2, -1))
    np.testing.assert_array_equal(first.arrays["b"], np.float32([1.5]))
    assert second.arrays["b"].shape == (0, 3)
    first.arrays["a"][0, 0] = 5  # ours alone by now: torch asks for arrays that can be written


@pytest.mark.fault(8)
def test_a_hang_is_killed_and_others_go_on_meanwhile():
    hang = "__import__('time').sleep(600)"
    began = time.monotonic()
    outcomes = list(run_guarded(eval, [hang, "1", "2", "3"], workers=2, timeout_seconds=4.0, memory_mb=512))
    assert time.monotonic() - began < 120  # the job would take 600 s
    assert [name for name, _ in outcomes][-1] == hang
    assert isinstance(outcomes[-1][1], TimedOut)
    assert {outcome for _, outcome in outcomes[:-1]} == {1, 2, 3}


@pytest.mark.fault(8)
def test_a_worker_is_kept_and_a_dead_one_replaced():
    pid, die = "__import__('os').getpid()", "__import__('os')._exit(1)"
    pids = [outcome for job, outcome in run_guarded(eval, [pid, pid, die, pid], workers=1, **LIMITS) if job == pid]
    assert pids[0] == pids[1] != pids[2]
    assert os.getpid() not in pids


def test_children_are_forks_of_one_process_and_its_end_is_no_clip_s_fault():
    parent, kill = "__import__('os').getppid()", "__import__('os').kill(__import__('os').getppid(), 9)"
    parents = [outcome for _, outcome in run_guarded(eval, [parent, "__import__('os')._exit(1)", parent], workers=1, **LIMITS)][::2]
    assert parents[0] == parents[1] != os.getpid()
    with pytest.raises(PipelineError, match="SIGKILL"):
        list(run_guarded(eval, [kill, "__import__('time').sleep(300)"], workers=1, **LIMITS))


def test_that_process_serves_the_next_call_unless_its_surroundings_changed_or_a_call_broke_off(monkeypatch, tmp_path):
    def parent():
        [(_, outcome)] = run_guarded(eval, ["__import__('os').getppid()"], workers=1, **LIMITS)
        return outcome

    first = parent()
    assert parent() == first
    monkeypatch.chdir(tmp_path)
    elsewhere = parent()
    assert elsewhere != first
    [(_, place)] = run_guarded(eval, ["__import__('os').getcwd()"], workers=1, **LIMITS)
    assert place == str(tmp_path)
    broken = run_guarded(eval, ["1", "2"], workers=1, **LIMITS)
    next(broken)
    broken.close()
    assert not Path(f"/proc/{elsewhere}").exists()
    monkeypatch.setenv("AVEL_TEST", "1")
    assert parent() not in (first, elsewhere)


def test_jobs_are_taken_only_as_workers_become_free():
    taken = []

    def jobs():
        for n in range(50):
            taken.append(n)
            yield str(n)

    running = run_guarded(eval, jobs(), workers=2, **LIMITS)
    next(running)
    assert len(taken) <= 4
    running.close()


def test_a_function_no_child_can_import_is_an_error_not_a_crash():
    def local(job):
        return job

    local.__module__, local.__qualname__ = "__main__", "local"
    with pytest.raises(PipelineError, match="__main__"):
        list(run_guarded(local, [1], workers=1, **LIMITS))


@pytest.mark.fault(21)
def test_children_die_with_a_killed_parent():
    script = textwrap.dedent("""
        from pipeline.media.guard import run_guarded
        jobs = ["__import__('os').getpid()", "__import__('time').sleep(300)"]
        for job, outcome in run_guarded(eval, jobs, workers=1, timeout_seconds=200, memory_mb=512):
            print(outcome, flush=True)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, encoding="utf-8")
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(1200):
        if not Path(f"/proc/{child}").exists() or "Z (zombie)" in Path(f"/proc/{child}/status").read_text(encoding="utf-8"):
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent")


def test_ctrl_c_ends_parent_and_children():
    script = textwrap.dedent("""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from pipeline.media.guard import run_guarded
        jobs = ["__import__('os').getpid()", "__import__('time').sleep(300)"]
        for job, outcome in run_guarded(eval, jobs, workers=1, timeout_seconds=200, memory_mb=512):
            print(outcome, flush=True)
    """)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, encoding="utf-8", start_new_session=True, **streams)
    child = int(parent.stdout.readline())
    os.killpg(parent.pid, signal.SIGINT)  # the terminal sends it to the whole group
    assert parent.wait(timeout=120) != 0
    assert not Path(f"/proc/{child}").exists()
