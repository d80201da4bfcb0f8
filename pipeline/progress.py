"""Progress with rate and time left: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

from pipeline.text import duration

FIRST_SECONDS, LINE_SECONDS = 30.0, 60.0  # to the first line where there is no terminal, and between lines


class Progress(tqdm):
    """A bar on a terminal; elsewhere a line a minute on stderr, where the bar would be.

    Args:
        iterable: counted as it is consumed; None: :meth:`update` counts.
        total: None where it is not known; may be set later.
        initial: number done before.
        shown: False prints nothing at all.
    """

    def __init__(
        self, iterable: Iterable[Any] | None = None, *, desc: str, unit: str, total: int | None = None, initial: int = 0,
        shown: bool = True, leave: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(iterable, desc=desc, unit=unit, total=total, initial=initial, leave=leave, disable=None if shown else True)
        self.lines = shown and bool(self.disable)
        self.name, self.things, self.before = desc, unit, initial
        self.started = time.monotonic()
        self.due = self.started + FIRST_SECONDS

    def __iter__(self) -> Iterator[Any]:
        if not self.lines:
            yield from super().__iter__()
            return
        for item in self.iterable:
            yield item
            self.update()

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more."""
        if not self.lines:
            return super().update(n)
        self.n += n or 0
        if (now := time.monotonic()) >= self.due:
            self.due = now + LINE_SECONDS
            print(f"{self.name}: {self.sentence(now - self.started)}", file=sys.stderr, flush=True)
        return None

    def sentence(self, seconds: float) -> str:
        """Describe the progress ``seconds`` after the start: "1200 of 4097 clips, 3.2 clips/s, 15 min 05 s left"."""
        done = self.n - self.before
        rate = done / max(seconds, 1e-9)
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.2g}"
        if not self.total:
            return f"{self.n:,} {self.things}s, {speed} {self.things}s/s"
        left = f", {duration((self.total - self.n) / rate)} left" if done else ""
        return f"{self.n:,} of {self.total:,} {self.things}s, {speed} {self.things}s/s{left}"
