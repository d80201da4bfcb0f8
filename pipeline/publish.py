"""Publish directories and files by rename, so a reader sees a whole result or none; nothing is written in place."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.disk import name_place
from pipeline.errors import PipelineError
from pipeline.text import printable


@contextmanager
def publishing(directory: Path, resume: str | None = None) -> Iterator[Path]:
    """Provide a work directory that replaces ``directory``, by rename, when the block succeeds.

    The content of ``directory`` is therefore always whole, and its files are never written in place (DVC may have hard-linked them).

    Args:
        resume: fingerprint of everything the work depends on; an interrupted call with the same one is continued in its directory. None
            starts empty and leaves nothing behind on failure. Leftovers with any other fingerprint are removed.
    """
    partial = partial_of(directory, resume)
    for left in directory.parent.glob(f".{glob.escape(directory.name)}.*.partial"):
        if resume is None or left != partial:
            shutil.rmtree(left)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
    except BaseException as error:
        name_place(error, directory)
        if resume is None:  # useless, and a full disk needs the room
            shutil.rmtree(partial, ignore_errors=True)
        raise
    replace(partial, directory)


def partial_of(directory: Path, resume: str | None) -> Path:
    """The work directory of :func:`publishing`."""
    return directory.with_name(f".{directory.name}.{(resume or 'fresh')[:16]}.partial")


def replace(made: Path, directory: Path) -> None:
    """Replace ``directory``, which may not exist, with ``made``; the old one is removed only after that."""
    outdated = made.with_name(f"{made.name.removesuffix('.partial')}.outdated.partial")
    if directory.exists():
        os.replace(directory, outdated)
    try:
        os.replace(made, directory)
    except OSError:
        if outdated.exists():
            os.replace(outdated, directory)
        raise
    shutil.rmtree(outdated, ignore_errors=True)


def check_replaceable(directory: Path, files: Sequence[str], kind: str) -> None:
    """Check that nothing of the user's is lost if ``directory`` is replaced: it is absent, empty, or holds only ``files``.

    Args:
        files: what is written into such a directory; the first one is in every one of them.
        kind: its name in the message, such as "the folder of a prediction".

    Raises:
        PipelineError: it is a file or a link, or holds something else.
    """
    if not os.path.lexists(directory):
        return
    foreign = directory.name if not directory.is_dir() or directory.is_symlink() else None
    if foreign is None:
        found = sorted(path.name for path in directory.iterdir())
        foreign = next((name for name in found if name not in files or files[0] not in found), None)
    if foreign is not None:
        raise PipelineError(
            f"{directory} is not {kind} ({printable(foreign)} is not a file of one), so it is not replaced;"
            " move it, or choose another --out"
        )


@contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Provide a temporary name to write to; the file there replaces ``path``, by rename, when the block succeeds.

    A reader sees either the whole new file or the old one. A block that fails leaves nothing; a killed process leaves ``.NAME.partial``,
    which DVC ignores and the next writer of ``path`` overwrites.

    Args:
        partial: another temporary name on the same file system, needed if several may write ``path`` at a time, or if ``.NAME.partial``
            would be too long.
    """
    partial = partial or path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        name_place(error, path)
        raise
    finally:
        with suppress(OSError):  # must not hide the block's own error
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, keeping the permissions of the one it replaces."""
    target = path.resolve()  # a link stays a link
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
        if target.exists():
            shutil.copymode(target, partial)
