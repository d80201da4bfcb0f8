"""Whole directories and files by rename: a reader sees all of a result or none of it, and no file in it is ever written in place."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.disk import name_place


@contextmanager
def publishing(directory: Path, resume: str | None = None) -> Iterator[Path]:
    """A work directory beside ``directory`` that takes its place, by rename, when the block ends well.

    What is under ``directory`` is thus always whole, and no file in it is ever written in place (DVC may have hard-linked it).

    Args:
        resume: a fingerprint of everything the work depends on: what an interrupted run with the same one left is found again.
            None starts empty, and leaves nothing behind when it fails. Work left by any other run is removed.
    """
    partial = directory.with_name(f".{directory.name}.{(resume or 'fresh')[:16]}.partial")
    for left in directory.parent.glob(f".{glob.escape(directory.name)}.*.partial"):
        if resume is None or left != partial:
            shutil.rmtree(left)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
    except BaseException as error:
        name_place(error, directory)
        if resume is None:  # of no use to anyone, and a full disk needs the room
            shutil.rmtree(partial, ignore_errors=True)
        raise
    replace(partial, directory)


def replace(made: Path, directory: Path) -> None:
    """Put ``made`` in the place of ``directory``, which may not exist; the old one is removed once the new one stands there."""
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


@contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; what stands there when the block ends well takes the place of ``path``, by rename.

    A reader sees the whole new file or the one that was there before. A block that fails leaves nothing; a killed process leaves
    ``.NAME.partial``, which DVC ignores and the next writer of ``path`` overwrites.

    Args:
        partial: another name for the unfinished file, on the same file system: where several may write one ``path`` at a time, or where
            ``.NAME.partial`` would be too long.
    """
    partial = partial or path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        name_place(error, path)
        raise
    finally:
        with suppress(OSError):  # the block's own error tells more
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in the place of the one of that name, whose permissions it keeps."""
    target = path.resolve()  # a link stays a link
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
        if target.exists():
            shutil.copymode(target, partial)
