"""The block ``cache`` of params.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipeline.cache.place import LOCAL_GB, Store, place_of
from pipeline.settings import Settings


class CacheSettings(Settings):
    """Place of the per-clip cache; it changes no number, and no stage depends on it."""

    dir: str | None = Field(
        None,
        description="absolute path, or a URL that all machines reach (s3://bucket/folder, gs://..., file:///...; credentials come from the"
        " environment); null: $AVEL_CACHE, else ~/.cache/avel-pipeline",
    )
    local_gb: float = Field(
        LOCAL_GB,
        ge=0,
        description="most room for the local copy of a cache at a URL, in 10^9 bytes; the least recently used entries go first",
    )
    local_dir: Path | None = Field(
        None, description="absolute path of these local copies; null: below the directory that the cache has without a URL"
    )
    min_free_gb: float = Field(
        1.0,
        ge=0,
        description="a stage that would leave less than this free, in 10^9 bytes, at the cache or where it writes, stops before its work",
    )

    @property
    def place(self) -> Path | Store:
        """The directory or store, for :class:`pipeline.cache.Cache`."""
        return place_of(self.dir, self.local_dir, self.local_gb)
