"""Errors that are meant for the user: what was wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class PipelineError(Exception):
    """A fault of the input or the set-up, told in one message a user can act on. Stages print it without a traceback."""


class InputProblems(PipelineError):
    """Every problem found in one input, reported together and before any work is done.

    Args:
        where: the input as the user knows it, e.g. ``params.yaml``.
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
    """Name the clips under way in whatever error the block raises: in the message of a PipelineError, else in a note to the traceback."""
    names = f"clip{'s' if len(clips) > 1 else ''} {', '.join(map(repr, clips))}"
    try:
        yield
    except PipelineError as error:
        raise PipelineError(f"{names}: {work}: {error}") from error
    except Exception as error:
        error.add_note(f"{work}, at {names}")
        raise
