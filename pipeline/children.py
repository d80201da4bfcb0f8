"""Child processes: fresh interpreters (nothing of the parent's is forked) that talk over a pipe and end with their parent."""

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
LOOK_SECONDS = 0.5  # between two looks of a child at whether its parent still lives


def start(serve: Callable[[Connection], None], **options: Any) -> tuple[subprocess.Popen[bytes], Connection]:
    """A child process that calls ``serve`` with its end of a pipe; and the parent's end.

    Ctrl-C, which a terminal sends to both, is the parent's to handle: a child never sees it. A child whose parent is gone, killed or
    not, ends within about a second.

    Args:
        serve: importable by name in a fresh interpreter.
        options: of ``subprocess.Popen``: streams, environment.
    """
    ours, theirs = Pipe()
    name = f"{serve.__module__}:{serve.__qualname__}"
    command = [sys.executable, "-c", COMMAND, json.dumps(sys.path), name, str(theirs.fileno()), str(os.getpid())]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the child takes it over, and is safe before it can ignore the signal
    try:
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
    return process, ours


def enter(name: str, descriptor: str, parent: str) -> None:
    """What a child does: ``serve`` (``module:function``) on the pipe ``descriptor``, for as long as the process ``parent`` is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(int(parent))
    pkgutil.resolve_name(name)(Connection(int(descriptor)))


def end_with(parent: int) -> None:
    """Let this process end within about a second once the process ``parent``, which started it, is gone, however that ended."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def exit_reason(process: subprocess.Popen[bytes]) -> str:
    """How a child ended, in words."""
    try:
        code = process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:
        return "the child process closed its pipe"
    return f"the child process was ended by {signal.Signals(-code).name}" if code < 0 else f"the child process exited with code {code}"


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
