"""Errors for the user: what is wrong, where, and what to do about it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

# What NumPy raises at a file that is no .npz, is a damaged one, or lacks an array.
NPZ_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class PipelineError(Exception):
    """A fault of the input or the set-up, with a message a user can act on; printed without a traceback."""


class InputProblems(PipelineError):
    """All problems found in one input, reported together before any work is done.

    Args:
        where: the user's name of the input, e.g. ``params.yaml``.
        problems: one sentence each, with line, clip id or param path.
    """

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        self.where = where
        self.problems = list(problems)
        count = len(self.problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{where}: {count} problem{'s' if count != 1 else ''}\n{lines}")


@contextmanager
def naming_clips(clips: Sequence[str], work: str) -> Iterator[None]:
    """Name the current clips in any error that the block raises.

    The names go into the message of a PipelineError, and into a note of any other error's traceback.
    """
    names = f"clip{'s' if len(clips) > 1 else ''} {', '.join(map(repr, clips))}"
    try:
        yield
    except PipelineError as error:
        raise PipelineError(f"{names}: {work}: {error}") from error
    except Exception as error:
        error.add_note(f"{work}, at {names}")
        raise
