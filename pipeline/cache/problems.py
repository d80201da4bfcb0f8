"""Problems of the block ``cache``; the sentences repeat no URL, as it may hold a password."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.cache.place import is_url, url_problem
from pipeline.schema import block


def problems(params: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence if the place of the cache is a URL that cannot be one."""
    place = block(params, "cache").get("dir")
    if isinstance(place, str) and is_url(place) and (problem := url_problem(place)):
        yield f"cache.dir: {problem}"
