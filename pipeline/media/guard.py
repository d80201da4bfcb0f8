"""Run a function over many jobs in child processes that may crash, hang or run out of memory without harm.

A child (of :mod:`pipeline.children`) serves many jobs, dies alone, and is replaced at the cost of a fork. It ends with the parent; if a
decoder hangs in native code, an alarm ends it a little after the job's time limit.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, ClassVar

from pipeline.children import Nursery
from pipeline.errors import PipelineError
from pipeline.media.handed import Handed, give, lay_out, take

ALARM_GRACE_SECONDS = 10.0  # the parent ends a job first; the alarm is for children without a parent
IDLE = 3  # processes kept for the next call: one to survey files, two to decode them for two threads
LIMITS = [number for name, number in sorted(vars(resource).items()) if name.startswith("RLIMIT_")]
_idle: list[tuple[tuple[Any, ...], Nursery]] = []  # the last used last; several may have the same key
_idle_lock = threading.Lock()


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
    """One child process, the pipe to it, and its current job."""

    def __init__(self, nursery: Nursery, timeout_seconds: float, job: Any) -> None:
        self.nursery = nursery
        self.timeout_seconds = timeout_seconds
        self.process, self.connection = nursery.child()
        self.give(job)

    def give(self, job: Any) -> None:
        self.job = job
        self.deadline = time.monotonic() + self.timeout_seconds
        with contextlib.suppress(OSError):  # a dead child is noticed, and dealt with, when its answer is read
            self.connection.send(job)

    def stop(self) -> None:
        self.nursery.end(self.process)
        self.connection.close()

    def progress(self) -> tuple[Any] | None:
        """The job's outcome in a tuple of one; None while it is still at work.

        After a crash or a time-out the child is gone.
        """
        if not self.connection.poll():
            if time.monotonic() < self.deadline:
                return None
            self.stop()
            return (TimedOut(f"no result after {self.timeout_seconds:g} s"),)
        try:
            kind, content = self.connection.recv()
            if kind == "handed":
                content, layout = content
                return (Handed(content, take(self.connection, layout)),)
        except (EOFError, OSError):
            self.connection.close()
            return (Crashed(self.nursery.ended(self.process)),)
        return (content,) if kind == "done" else (Failed(content),)


def run_guarded(
    function: Callable[[Any], Any], jobs: Iterable[Any], *, workers: int, timeout_seconds: float, memory_mb: int
) -> Iterator[tuple[Any, Any]]:
    """Yield ``(job, outcome)`` in the order of completion; the outcome is the function's result or a :class:`Failure`.

    Args:
        function: importable by name in a fresh interpreter (a module-level callable, not of ``__main__``). Keep results small: arrays
            belong in a cache that the function writes, or in a :class:`Handed`, whose arrays come in shared memory.
        jobs: picklable; consumed one per free worker, never ahead.
        timeout_seconds: wall time of one job.
        memory_mb: address space in MiB that a child may take beyond what it holds after importing the function.

    Raises:
        PipelineError: the function cannot be imported by a child, or children do not start.
    """
    if getattr(function, "__module__", None) == "__main__":
        raise PipelineError(f"{function!r} lives in __main__, which a child process cannot import; move it into a module")
    remaining = iter(jobs)
    first = list(itertools.islice(remaining, workers))
    if not first:
        return
    running: list[_Worker] = []
    try:
        with _nursery(function, timeout_seconds + ALARM_GRACE_SECONDS, memory_mb) as nursery:
            running.extend(_Worker(nursery, timeout_seconds, job) for job in first)
            while running:
                for worker in _stirring(running):
                    boxed = worker.progress()
                    if boxed is None:
                        continue
                    job, outcome = worker.job, boxed[0]
                    gone = isinstance(outcome, Crashed | TimedOut)
                    if gone:
                        running.remove(worker)
                    following = list(itertools.islice(remaining, 1))
                    if gone:
                        running.extend(_Worker(nursery, timeout_seconds, job) for job in following)
                    elif following:
                        worker.give(following[0])
                    else:
                        running.remove(worker)
                        worker.stop()
                    yield job, outcome
    finally:
        for worker in running:
            worker.connection.close()


@contextlib.contextmanager
def _nursery(function: Callable[[Any], Any], alarm_seconds: float, memory_mb: int) -> Iterator[Nursery]:
    """A process that forks children for ``function``, kept for the next call because starting it costs much.

    It is taken again only where it would be started just so: same limits, directory, environment and import path. After an error, or where
    the caller takes no further outcome, it ends with its children.
    """
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # as many cores as workers
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)  # FFmpeg's complaints; what matters comes back as a reason
    setting, environment = (function, alarm_seconds, memory_mb), {**os.environ, **single}
    surroundings = os.getcwd(), tuple(sorted(environment.items())), tuple(sys.path), tuple(map(resource.getrlimit, LIMITS))
    key = os.getpid(), setting, surroundings
    with _idle_lock:
        place = next((place for place, (of, _) in enumerate(_idle) if of == key), None)
        nursery = None if place is None else _idle.pop(place)[1]
    if nursery is None or not nursery.lives:
        nursery = Nursery(serve, setting, env=environment, **quiet)
    try:
        yield nursery
    except BaseException:
        nursery.stop()
        raise
    with _idle_lock:
        _idle.append((key, nursery))
        surplus = [_idle.pop(0) for _ in _idle[:-IDLE]]
    for _, each in surplus:
        each.stop()


@atexit.register
def _end_idle() -> None:
    for (process, *_), nursery in _idle:
        if process == os.getpid():  # a fork has these objects too, and not these children
            nursery.stop()


def _stirring(running: list[_Worker]) -> list[_Worker]:
    """Wait for a message or a deadline, and return the workers concerned."""
    patience = max(0.0, min(worker.deadline for worker in running) - time.monotonic())
    ready = wait([worker.connection for worker in running], patience)
    return [worker for worker in running if worker.connection in ready or worker.deadline <= time.monotonic()]


def serve(connection: Connection, setting: tuple[Callable[[Any], Any], float, int]) -> None:
    """Answer jobs from the pipe until it closes; a child runs this.

    Args:
        setting: the function, the seconds of the alarm, and the memory in MiB.
    """
    function, alarm_seconds, memory_mb = setting
    _limit_memory(memory_mb)
    with contextlib.suppress(EOFError, OSError):  # the parent has closed the pipe
        while True:
            job = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, alarm_seconds)  # its default action kills, even inside hung native code
            message, descriptor = _answer(function, job)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send_bytes(message)
            if descriptor is not None:
                give(connection, descriptor)


def _answer(function: Callable[[Any], Any], job: Any) -> tuple[bytes, int | None]:
    """Return the message to send, and the descriptor of its arrays if it has any."""
    try:
        result = function(job)
        if not isinstance(result, Handed):
            return pickle.dumps(("done", result)), None
        descriptor, layout = lay_out(result.arrays)
        return pickle.dumps(("handed", (result.content, layout))), descriptor
    except Exception as error:
        return pickle.dumps(("failed", " ".join(f"{type(error).__name__}: {error}".split())[:500])), None


def _limit_memory(memory_mb: int) -> None:
    """Cap the address space at what is mapped now (libraries map gigabytes they never touch) plus ``memory_mb`` MiB."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = mapped + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
