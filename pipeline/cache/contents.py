"""What a cache holds, by kind and age, and the removal of what is old or not needed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.cache.local import Listed

DAY = 86_400.0
AGES = {"1 day": DAY, "7 days": 7 * DAY, "30 days": 30 * DAY}  # limits of the columns; the last column is for what is older


class Entries(Protocol):
    """A place that can list its entries and remove one."""

    def entries(self) -> Iterator[Listed]: ...

    def remove(self, kind: str, key: str) -> None: ...


@dataclass
class Sum:
    """Entries counted, and their bytes."""

    entries: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        self.entries += 1
        self.size += size


@dataclass
class Held:
    """The entries of one kind: all, by age (within each of :data:`AGES`, then older), and those that are needed."""

    all: Sum = field(default_factory=Sum)
    by_age: list[Sum] = field(default_factory=lambda: [Sum() for _ in range(len(AGES) + 1)])
    needed: Sum = field(default_factory=Sum)


def held(place: Entries, needed: Mapping[str, Collection[str]]) -> dict[str, Held]:
    """Count the entries of each kind.

    Args:
        needed: keys by kind.
    """
    now, kinds = time.time(), dict[str, Held]()
    for each in place.entries():
        kind = kinds.setdefault(each.kind, Held())
        kind.all.add(each.size)
        kind.by_age[sum(now - each.used > limit for limit in AGES.values())].add(each.size)
        if each.key in needed.get(each.kind, ()):
            kind.needed.add(each.size)
    return dict(sorted(kinds.items()))


@dataclass(frozen=True)
class Choice:
    """The entries to remove.

    Args:
        older_than: seconds since the last known use, at least.
        kinds: None for all.
        kept: keys by kind that stay.
        whole: kinds of which all stay.
    """

    older_than: float = 0.0
    kinds: Collection[str] | None = None
    kept: Mapping[str, Collection[str]] = field(default_factory=dict)
    whole: Collection[str] = ()

    def of(self, entries: Iterable[Listed]) -> Iterator[Listed]:
        """Choose among entries."""
        now = time.time()
        for each in entries:
            chosen = (self.kinds is None or each.kind in self.kinds) and each.kind not in self.whole
            if chosen and now - each.used >= self.older_than and each.key not in self.kept.get(each.kind, ()):
                yield each


def prune(place: Entries, choice: Choice, dry_run: bool = False) -> dict[str, Sum]:
    """Remove the chosen entries and return how many there were of each kind.

    A stage beside it that misses one makes it again, so no more than time is lost; a half-read file stays readable.

    Args:
        dry_run: count only.
    """
    gone: dict[str, Sum] = {}
    for each in choice.of(place.entries()):
        if not dry_run:
            place.remove(each.kind, each.key)
        gone.setdefault(each.kind, Sum()).add(each.size)
    return dict(sorted(gone.items()))
