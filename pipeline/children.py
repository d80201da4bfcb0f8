"""Child processes: fresh interpreters, not forks, that talk over a pipe and end with their parent."""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any

COMMAND = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pipeline.children import enter; enter(*sys.argv[2:])"
LOOK_SECONDS = 0.5  # between a child's checks that its parent is alive


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
        code = process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:
        return "the child process closed its pipe"
    return f"the child process was ended by {signal.Signals(-code).name}" if code < 0 else f"the child process exited with code {code}"


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
