"""Child processes that talk over a pipe and end with their parent: fresh interpreters, or forks of one.

A process of this project is never forked itself: it may hold threads and a GPU. A :class:`Nursery` is a fresh interpreter that imports what
its children need once, runs no threads of any library, and is forked for each of them: a child costs milliseconds then.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import Connection, Pipe
from typing import Any

from pipeline.errors import PipelineError

COMMAND = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pipeline.children import enter; enter(*sys.argv[2:])"
LOOK_SECONDS = 0.5  # between a child's checks that its parent is alive
START_SECONDS = 120.0  # to start a nursery and import what its children need, on a busy machine
END_SECONDS = 5.0  # from the end of a child's pipe to its own


def start(serve: Callable[[Connection], None], **options: Any) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a child process that calls ``serve`` with its end of a pipe; returns the process and the parent's end.

    A child ignores Ctrl-C, which a terminal sends to both; the parent handles it. A child ends within about a second after its parent is
    gone, even if that was killed.

    Args:
        serve: importable by name in a fresh interpreter.
        options: passed to ``subprocess.Popen``: streams, environment.
    """
    ours, theirs = Pipe()
    name = f"{serve.__module__}:{serve.__qualname__}"
    command = [sys.executable, "-c", COMMAND, json.dumps(sys.path), name, str(theirs.fileno()), str(os.getpid())]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the child inherits the mask: safe until it ignores the signal
    try:
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
    return process, ours


def enter(name: str, descriptor: str, parent: str) -> None:
    """Run in the child: call ``serve`` (``module:function``) on the pipe ``descriptor`` while the process ``parent`` lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(int(parent))
    pkgutil.resolve_name(name)(Connection(int(descriptor)))


def end_with(parent: int) -> None:
    """End this process within about a second after ``parent``, which started it, has ended in any way."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def exit_reason(process: subprocess.Popen[bytes]) -> str:
    """Describe how a child ended."""
    try:
        return _in_words(process.wait(timeout=END_SECONDS))
    except subprocess.TimeoutExpired:
        return _in_words(None)


def _in_words(code: int | None) -> str:
    if code is None:
        return "the child process closed its pipe"
    return f"the child process was ended by {signal.Signals(-code).name}" if code < 0 else f"the child process exited with code {code}"


class Nursery:
    """A child process that forks others, each of which calls ``serve`` with its end of a pipe.

    Args:
        serve: importable by name in a fresh interpreter, as all that ``argument`` holds must be.
        argument: a second argument of ``serve``.
        options: passed to ``subprocess.Popen``: streams, environment.

    Raises:
        PipelineError: the process does not start, or cannot import ``serve`` or ``argument``.
    """

    def __init__(self, serve: Callable[[Connection, Any], None], argument: Any, **options: Any) -> None:
        self._process, self._control = start(_nurse, **options)
        try:
            with contextlib.suppress(OSError):  # a dead process is noticed when its answer is read
                self._control.send_bytes(pickle.dumps((serve, argument)))
            if not self._control.poll(START_SECONDS):
                raise PipelineError(f"a child process did not start within {START_SECONDS:g} s; is the machine overloaded?")
            problem = self._answer("died while starting")
            if problem is not None:
                raise PipelineError(f"a child process cannot import the function to run: {problem}")
        except BaseException:
            self.stop()
            raise

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def child(self) -> tuple[int, Connection]:
        """Fork a child; returns its process id and the parent's end of its pipe.

        Raises:
            PipelineError: the system allows no further process, or the nursery is gone.
        """
        ours, theirs = Pipe()
        with theirs, contextlib.suppress(OSError):
            self._control.send(("fork", 0))
            reduction.send_handle(self._control, theirs.fileno(), self._process.pid)
        child = self._answer("is gone")
        if isinstance(child, str):
            raise PipelineError(f"no child process can be started: {child}")
        return child, ours

    def end(self, child: int) -> None:
        """Kill a child and wait for its end."""
        self._ask("end", child)

    def ended(self, child: int) -> str:
        """Wait for the end of a child that closed its pipe, and describe it."""
        return _in_words(self._ask("wait", child))

    def stop(self) -> None:
        """End the nursery and all its children."""
        self._control.close()
        try:
            self._process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children follow, see `end_with`
            self._process.wait()

    def _ask(self, wish: str, child: int) -> Any:
        with contextlib.suppress(OSError):  # a dead process is noticed when its answer is read
            self._control.send((wish, child))
        return self._answer("is gone")

    def _answer(self, fault: str) -> Any:
        try:
            return self._control.recv()
        except (EOFError, OSError):
            raise PipelineError(f"the child process that starts the others {fault}: {exit_reason(self._process)}") from None


def _nurse(control: Connection) -> None:
    """Serve a :class:`Nursery` until it closes the pipe, then end all children."""
    try:
        serve, argument = pickle.loads(control.recv_bytes())
    except Exception as error:
        control.send(f"{type(error).__name__}: {error}")
        return
    gc.freeze()  # what is imported is shared by all children: no collection need write to it
    control.send(None)
    children: set[int] = set()
    with contextlib.suppress(EOFError, OSError):
        while True:
            wish, child = control.recv()
            if wish == "fork":
                control.send(_forked(control, children, serve, argument))
            else:
                if wish == "end":
                    os.kill(child, signal.SIGKILL)
                control.send(_awaited(child))
                children.remove(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)


def _forked(control: Connection, children: set[int], serve: Callable[[Connection, Any], None], argument: Any) -> int | str:
    """Fork a child that never returns from here; returns its process id, or why there can be none."""
    connection, nurse = Connection(reduction.recv_handle(control)), os.getpid()
    with connection:
        try:
            child = os.fork()
        except OSError as error:
            return str(error)
        if child:
            children.add(child)
            return child
        code = 1
        try:
            control.close()
            end_with(nurse)
            serve(connection, argument)
            code = 0
        finally:
            os._exit(code)


def _awaited(child: int) -> int | None:
    """Wait for a child and return its exit code, negative for a signal.

    None: it went on after closing its pipe, and is ended now.
    """
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
