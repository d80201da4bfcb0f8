"""Loading a little ahead of the consumer, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

LOADERS = 2
Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """``function`` over ``items`` in order, a few items ahead of the consumer and never more: memory stays bounded."""
    remaining = iter(items)
    with ThreadPoolExecutor(LOADERS) as pool:
        pending = deque((item, pool.submit(function, item)) for item in islice(remaining, 2 * LOADERS))
        while pending:
            item, future = pending.popleft()
            for following in islice(remaining, 1):
                pending.append((following, pool.submit(function, following)))
            yield item, future.result()
