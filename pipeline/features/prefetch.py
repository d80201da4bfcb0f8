"""Loading a little ahead of the consumer, in threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.features import lanes

LOADERS = 2
Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """``function`` over ``items`` in order, a few items ahead of the consumer and never more: memory stays bounded."""
    with ThreadPoolExecutor(LOADERS) as pool:
        yield from lanes.ahead(lambda item: pool.submit(function, item), items, 2 * LOADERS)
