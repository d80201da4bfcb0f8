"""Say before any work what will be written where, beside what is free there, and stop if it cannot fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.cache import Cache, Store
from pipeline.disk import existing, free_at, size_in_words
from pipeline.errors import PipelineError


@dataclass(frozen=True)
class Writing:
    """What will be written at one place.

    what: in words, with its number: "frames and sound of 4097 clips".
    size: estimated bytes.
    place: a directory, which need not exist; or the URL of a store, whose room nobody knows.
    smaller: settings that would make it smaller, perhaps with what they would leave.
    """

    what: str
    size: float
    place: Path | str
    smaller: tuple[str, ...] = ()


def check_room(who: str, writings: Sequence[Writing], spare_gb: float) -> None:
    """Print what ``who`` will write, and check that it fits.

    Args:
        spare_gb: room that is to stay free, in 10^9 bytes.

    Raises:
        PipelineError: it does not fit; names the settings that would make it smaller.
    """
    for each in writings:
        print(f"{who}: {sentence(each)}", flush=True)
    if problems := shortages(writings, spare_gb):
        raise PipelineError("\n".join(problems))


@contextmanager
def naming_shortage(remaining: Callable[[], Sequence[Writing]]) -> Iterator[None]:
    """Add to an error of the block how much room the rest of its work lacks, if it lacks any.

    Args:
        remaining: what is still to be written, asked after the error.
    """
    try:
        yield
    except PipelineError as error:
        lacking: list[str] = []
        with suppress(PipelineError):  # where the cache does not answer, nobody knows what remains
            lacking = shortages(remaining(), 0.0)
        if lacking:
            raise PipelineError(f"{error}\nFor all that is still to be done: {' '.join(lacking)}") from error
        raise


def sentence(writing: Writing) -> str:
    """One line on what will be written and what is free."""
    if not writing.size:
        return f"nothing to write to {writing.place}"
    free = (
        f"{size_in_words(free_at(writing.place))} free there"
        if isinstance(writing.place, Path)
        else "which does not say what is free there"
    )
    return f"will write about {size_in_words(writing.size)} ({writing.what}) to {writing.place}; {free}"


def shortages(writings: Sequence[Writing], spare_gb: float) -> list[str]:
    """One sentence for each disk that is too small for what will be written to it."""
    disks: dict[int, list[Writing]] = {}
    for each in writings:
        if isinstance(each.place, Path) and each.size:
            disks.setdefault(existing(each.place).stat().st_dev, []).append(each)
    return [line for together in disks.values() for line in _shortage(together, spare_gb)]


def _shortage(together: list[Writing], spare_gb: float) -> Iterator[str]:
    largest = max(together, key=lambda each: each.size)
    assert isinstance(largest.place, Path)
    size, free = sum(each.size for each in together), free_at(largest.place)
    if (missing := size + spare_gb * 1e9 - free) <= 0:
        return
    smaller = list(dict.fromkeys(setting for each in together for setting in each.smaller))
    kept = f", of which cache.min_free_gb keeps {size_in_words(spare_gb * 1e9)}" if spare_gb else ""
    advice = f", or write less with {', '.join(smaller)}" if smaller else ""
    yield (
        f"{largest.place} is too full: about {size_in_words(size)} are to be written, {size_in_words(free)} are free{kept}, so"
        f" {size_in_words(missing)} are missing; free some space{advice}, and run again"
    )


def in_cache(cache: Cache, what: str, size: float, smaller: tuple[str, ...] = ()) -> list[Writing]:
    """What is written into the cache; of one at a URL, also what its local copy grows by at most."""
    if not isinstance(cache.root, Store):
        return [Writing(what, size, cache.root, smaller)]
    copied = min(size, cache.root.local_bytes)
    return [Writing(what, size, str(cache.root), smaller), Writing(f"local copy of {what}", copied, cache.root.local, ("cache.local_gb",))]


def room_of(cache: Cache) -> float:
    """Bytes free at the cache; of one at a URL, the most that its local copy may hold."""
    return cache.root.local_bytes if isinstance(cache.root, Store) else free_at(cache.root)
