"""Entries of a store at a URL, read through a local copy.

What this machine makes lies in an *outbox* on its disk until the store has it, so nothing finished is lost while the store fails: the next
stage that looks for an entry delivers it from there. Children that decode hostile files never speak to the store.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

from pipeline.cache.entry import BEGINNING, Damaged, Entry, facts_at_the_beginning, read_entry
from pipeline.cache.local import Directory, Listed
from pipeline.cache.local_copy import LocalCopy
from pipeline.cache.objects import AT_ONCE, Objects
from pipeline.cache.place import Store
from pipeline.disk import disk_fault

Result = TypeVar("Result")


class Shared:
    """The entries of a store, this machine's copy of some, and its outbox."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.copy = LocalCopy(store.local / "entries", store.local_bytes)
        self.outbox = Directory(store.local / "outbox")
        self._objects: Objects | None = None
        self._complained = False

    @property
    def objects(self) -> Objects:
        """The connection, made when it is first needed: a child that only stages entries needs none."""
        if self._objects is None:
            self._objects = Objects(self.store.url)
        return self._objects

    def deliver(self, kind: str, key: str) -> None:
        """Bring an entry from the outbox to the store; nothing if none is there."""
        path = self.outbox.path(kind, key)
        with suppress(FileNotFoundError):  # another process has delivered it
            self.objects.write(kind, key, path.read_bytes())
            try:
                self.copy.take(path, kind, key)
            except FileNotFoundError:
                raise
            except OSError as error:
                self._complain(error)
                path.unlink()

    def read(self, kind: str, key: str) -> Entry | None:
        """Read an entry from the copy, the outbox or the store; a damaged one is removed there."""
        for nearby in (self.copy, self.outbox):
            if (entry := nearby.read(kind, key)) is not None:
                return entry
        content = self.objects.read(kind, key)
        if content is None:
            return None
        try:
            entry = read_entry(lambda: io.BytesIO(content), key)
        except Damaged as damage:
            self._discard(kind, key, str(damage))
            return None
        self._keep(kind, key, content)
        return entry

    def facts(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read the facts of an entry; of one in the store only the beginning is brought."""
        for nearby in (self.copy, self.outbox):
            if (entry := nearby.read(kind, key, only_facts=True)) is not None:
                return entry[1]
        beginning = self.objects.read(kind, key, BEGINNING)
        facts = None if beginning is None else facts_at_the_beginning(beginning)
        if beginning is None or facts is not None:
            return facts
        whole = self.read(kind, key)  # a very long document, or damage
        return None if whole is None else whole[1]

    def has(self, kind: str, key: str) -> bool:
        return self.copy.has(kind, key) or self.outbox.has(kind, key) or self.objects.has(kind, key)

    def remove(self, kind: str, key: str) -> None:
        for nearby in (self.copy, self.outbox):
            nearby.remove(kind, key)
        self.objects.remove(kind, key)

    def entries(self) -> Iterator[Listed]:
        """Yield all entries of the store; the copy knows of later uses by this machine."""
        used = {(each.kind, each.key): each.used for each in self.copy.entries()}
        for each in self.objects.entries():
            yield each._replace(used=max(each.used, used.get((each.kind, each.key), 0.0)))

    def each(self, function: Callable[[str, str], Result], kind: str, keys: Iterable[str]) -> dict[str, Result]:
        """Call ``function(kind, key)`` for every key, many at once, after what the outbox holds of it is delivered."""

        def call(key: str) -> Result:
            if self.outbox.has(kind, key):
                self.deliver(kind, key)
            return function(kind, key)

        chosen = list(dict.fromkeys(keys))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                return dict(zip(chosen, pool.map(call, chosen), strict=True))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _keep(self, kind: str, key: str, content: bytes) -> None:
        """Add an entry to the copy, if there is room."""
        if len(content) > self.copy.most:
            return
        partial = self.copy.partial(kind, key)
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            self.copy.take(partial, kind, key)
        except OSError as error:
            self._complain(error)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _complain(self, error: OSError) -> None:
        """Say once that the copy cannot be written; the store has everything."""
        if not self._complained:
            self._complained = True
            reason = disk_fault(error, self.copy.root) or str(error)
            print(f"the local copy of {self.store} is not used: {reason}", file=sys.stderr, flush=True)

    def _discard(self, kind: str, key: str, damage: str) -> None:
        self.objects.remove(kind, key)
        name = f"{self.store}/{kind}/{key}"
        print(f"the cache entry {name} is damaged ({damage}); it is removed, and made again when needed", file=sys.stderr, flush=True)


@lru_cache(maxsize=8)
def shared(store: Store, process: int) -> Shared:
    """The entries of a store, one object for each process: a connection must not be used across a fork."""
    return Shared(store)
