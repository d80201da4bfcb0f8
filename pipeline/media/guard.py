"""Run a function over many jobs in child processes that may crash, hang or run out of memory without harm.

A child (of :mod:`pipeline.children`) serves many jobs, and is replaced when it dies. It ends with the parent; if a decoder hangs in native
code, an alarm ends it a little after the job's time limit.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, ClassVar

from pipeline.children import exit_reason, start
from pipeline.errors import PipelineError

START_SECONDS = 120.0  # to start a child and import the function's module, on a busy machine
ALARM_GRACE_SECONDS = 10.0  # the parent ends a job first; the alarm is for children without a parent


@dataclass(frozen=True)
class Failure:
    """A job without a result; ``status`` is the matching clip status, ``reason`` one line."""

    status: ClassVar[str] = "unreadable"
    reason: str


class Crashed(Failure):
    """The child died: a segmentation fault, an abort, ``os._exit``, the kernel's out-of-memory killer."""

    status = "crashed"


class TimedOut(Failure):
    """The job outlived its time limit and was killed."""

    status = "timeout"


class Failed(Failure):
    """The function raised; MemoryError included."""


class _Worker:
    """One child process, the pipe to it, and its current or first job."""

    def __init__(self, function: bytes, timeout_seconds: float, memory_mb: int, job: Any) -> None:
        self.job = job
        self.ready = False
        self.timeout_seconds = timeout_seconds
        self.deadline = time.monotonic() + START_SECONDS
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # as many cores as workers
        self.process, self.connection = start(
            serve,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # FFmpeg's complaints; what matters comes back as a reason
            env={**os.environ, **single},
        )
        self._send((function, timeout_seconds + ALARM_GRACE_SECONDS, memory_mb))

    def give(self, job: Any) -> None:
        self.job = job
        self.deadline = time.monotonic() + self.timeout_seconds
        self._send(job)

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # a dead child is noticed, and dealt with, when its answer is read
            self.connection.send(message)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def progress(self) -> tuple[Any] | None:
        """The job's outcome in a tuple of one; None while it is still at work.

        Raises:
            PipelineError: the child does not start, or cannot import the function.
        """
        if not self.connection.poll():
            if time.monotonic() < self.deadline:
                return None
            if not self.ready:
                raise PipelineError(f"a child process did not start within {START_SECONDS:g} s; is the machine overloaded?")
            return (TimedOut(f"no result after {self.timeout_seconds:g} s"),)
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):
            if not self.ready:
                raise PipelineError(f"a child process died while starting: {exit_reason(self.process)}") from None
            return (Crashed(exit_reason(self.process)),)
        if kind == "broken":
            raise PipelineError(f"a child process cannot import the function to run: {content}")
        if kind == "ready":
            self.ready = True
            self.give(self.job)
            return None
        return (content,) if kind == "done" else (Failed(content),)


def run_guarded(
    function: Callable[[Any], Any], jobs: Iterable[Any], *, workers: int, timeout_seconds: float, memory_mb: int
) -> Iterator[tuple[Any, Any]]:
    """Yield ``(job, outcome)`` in the order of completion; the outcome is the function's result or a :class:`Failure`.

    Args:
        function: importable by name in a fresh interpreter (a module-level callable, not of ``__main__``). Keep results small:
            arrays belong in a cache that the function writes.
        jobs: picklable; consumed one per free worker, never ahead.
        timeout_seconds: wall time of one job.
        memory_mb: address space in MiB that a child may take beyond what it holds after importing the function.

    Raises:
        PipelineError: the function cannot be imported by a child, or children do not start.
    """
    if getattr(function, "__module__", None) == "__main__":
        raise PipelineError(f"{function!r} lives in __main__, which a child process cannot import; move it into a module")
    setting = (pickle.dumps(function), timeout_seconds, memory_mb)
    remaining = iter(jobs)
    running: list[_Worker] = []
    try:
        running.extend(_Worker(*setting, job) for job in itertools.islice(remaining, workers))
        while running:
            for worker in _stirring(running):
                boxed = worker.progress()
                if boxed is None:
                    continue
                job, outcome = worker.job, boxed[0]
                following = list(itertools.islice(remaining, 1))
                if following and not isinstance(outcome, Crashed | TimedOut):
                    worker.give(following[0])
                else:
                    running.remove(worker)
                    worker.stop()
                    running.extend(_Worker(*setting, job) for job in following)
                yield job, outcome
    finally:
        for worker in running:
            worker.stop()


def _stirring(running: list[_Worker]) -> list[_Worker]:
    """Wait for a message or a deadline, and return the workers concerned."""
    patience = max(0.0, min(worker.deadline for worker in running) - time.monotonic())
    ready = wait([worker.connection for worker in running], patience)
    return [worker for worker in running if worker.connection in ready or worker.deadline <= time.monotonic()]


def serve(connection: Connection) -> None:
    """Answer jobs from the pipe until it closes; a child runs this."""
    with contextlib.suppress(EOFError, OSError):  # the parent has closed the pipe
        pickled, alarm_seconds, memory_mb = connection.recv()
        try:
            function = pickle.loads(pickled)
        except Exception as error:
            connection.send(("broken", f"{type(error).__name__}: {error}"))
            return
        _limit_memory(memory_mb)
        connection.send(("ready", None))
        while True:
            job = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, alarm_seconds)  # its default action kills, even inside hung native code
            message = _answer(function, job)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send_bytes(message)


def _answer(function: Callable[[Any], Any], job: Any) -> bytes:
    try:
        return pickle.dumps(("done", function(job)))
    except Exception as error:
        return pickle.dumps(("failed", " ".join(f"{type(error).__name__}: {error}".split())[:500]))


def _limit_memory(memory_mb: int) -> None:
    """Cap the address space at what is mapped now (libraries map gigabytes they never touch) plus ``memory_mb`` MiB."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = mapped + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
