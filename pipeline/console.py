"""The frame around every program: any text can be printed, a closed pipe ends it quietly, faults become messages."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.disk import disk_fault
from pipeline.errors import PipelineError

CLOSED_PIPE = 141  # exit code when the reader has closed the pipe, as shells report SIGPIPE
INTERRUPTED, TERMINATED = 130, 143


@contextmanager
def console(prefix: str, code: int, interrupted: str, *places: Path) -> Iterator[None]:
    """Print a PipelineError or a disk fault as a sentence on stderr and exit with ``code``; 130 after Ctrl-C.

    If the reader has closed the pipe (``| head -1``), the program ends quietly with code 141.

    Args:
        prefix: printed before each message.
        interrupted: message to print after Ctrl-C.
        places: see :func:`pipeline.disk.disk_fault`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # otherwise printing "±" under LC_ALL=C would raise
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            with _flushed():
                yield
        except PipelineError as error:
            _fail(f"{prefix}{error}", code)
        except KeyboardInterrupt:
            _fail(f"{prefix}{interrupted}", INTERRUPTED)
        except Exception as error:
            sentence = disk_fault(error, *places)
            if sentence is None:
                raise
            _fail(f"{prefix}{sentence}", code)
    except BrokenPipeError:
        broken = [stream for stream in (sys.stdout, sys.stderr) if _reader_is_gone(stream)]
        if not broken:
            raise
        for stream in broken:
            _silence(stream)
        sys.exit(CLOSED_PIPE)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """On SIGTERM exit in the usual way, with code 143, so that temporary files are removed."""

    def leave(*_: Any) -> None:
        raise SystemExit(TERMINATED)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _flushed() -> Iterator[None]:
    """Flush stdout while an error can still be reported; at exit the interpreter would print a traceback."""
    try:
        yield
    finally:
        if sys.stdout is not None and not sys.stdout.closed:
            try:
                sys.stdout.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                _silence(sys.stdout)
                raise PipelineError(f"the output cannot be written: {error.strerror}") from error


def _fail(sentence: str, code: int) -> None:
    print(sentence, file=sys.stderr, flush=True)
    sys.exit(code)


def _reader_is_gone(stream: Any) -> bool:
    with suppress(OSError, ValueError, AttributeError):  # no stream, or not backed by a file
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    return False


def _silence(stream: Any) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
