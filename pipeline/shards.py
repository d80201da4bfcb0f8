"""Shares of a stage's clips, for machines that fill one cache together without an engine: ``--shard 2/8``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import PipelineError

OPTION = "--shard"
_FORM = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True)
class Shard:
    """Share ``number`` of ``count`` shares, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n``.

        Raises:
            PipelineError: the text is not two whole numbers, or i is not in 1 to n.
        """
        found = _FORM.fullmatch(text)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.count:
            raise PipelineError(f"{OPTION} {text[:40]!r} is no share: give i/n with i from 1 to n, such as 1/8 to 8/8 for eight jobs")
        return shard

    def share(self, keys: Iterable[str]) -> set[str]:
        """The keys of this share, every n-th of all.

        It depends on no cache, so it is the same however much is done, and the shares of one n have no key in common.
        """
        return set(sorted(set(keys))[self.number - 1 :: self.count])
