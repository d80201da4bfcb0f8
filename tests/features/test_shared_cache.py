"""Extraction into a cache at a URL, and beside somebody who removes entries."""

from __future__ import annotations

import threading

import pandas as pd
import pytest

from pipeline.cache import Cache, CacheError, Deliveries, Store
from pipeline.cache.contents import Choice, prune
from pipeline.features.clip_encoder import KIND
from pipeline.features.extraction import Extraction
from tests.features.test_extraction import SETTINGS, World


def store(tmp_path, machine):
    return Store("s3://clips/lab", tmp_path / machine, 10**9)


def test_an_extraction_into_a_store_gives_the_bytes_of_one_into_a_directory(bucket, tmp_path):
    World(tmp_path / "directory", (0, 1)).extract(tmp_path / "expected")
    world = World(store(tmp_path, "one"), (0, 1))
    assert "2 encoded" in world.extract(tmp_path / "first")
    other = World(store(tmp_path, "other"), (0, 1))
    assert "0 encoded" in other.extract(tmp_path / "second")
    assert world.bytes(tmp_path / "first") == world.bytes(tmp_path / "second") == world.bytes(tmp_path / "expected")


def test_a_failed_delivery_is_the_error_of_a_block_that_has_none_of_its_own(bucket, tmp_path):
    bucket.fails = lambda method, path: 403
    cache = Cache(store(tmp_path, "one"))
    cache.stage(KIND, "ab" * 32, {})
    with pytest.raises(CacheError, match="rights"), Deliveries() as deliveries:
        deliveries.add(cache, KIND, "ab" * 32)
    with pytest.raises(KeyError), Deliveries() as deliveries:
        deliveries.add(cache, KIND, "ab" * 32)
        raise KeyError


def test_an_extraction_beside_somebody_who_removes_everything_gives_the_same_bytes(tmp_path):
    World(tmp_path / "alone", (0, 1)).extract(tmp_path / "expected")
    world = World(tmp_path / "cache", (0, 1))
    ended, removed = threading.Event(), []

    def remove():
        while not ended.is_set():
            removed.append(sum(each.entries for each in prune(world.cache, Choice(kinds=[KIND])).values()))

    pruning = threading.Thread(target=remove)
    extraction = Extraction(SETTINGS, world.jobs, world.cache, 1)
    (tmp_path / "store").mkdir()
    written = extraction.write

    def write(clips, directory):
        """The extraction has encoded; what it reads next is gone, once or more often."""
        pruning.start()
        while not sum(removed):
            pass
        ended.set()
        pruning.join()
        written(clips, directory)

    extraction.write = write
    extraction.run(pd.DataFrame(world.verdicts), tmp_path / "store")
    assert sum(removed) == 4
    assert world.bytes(tmp_path / "store") == world.bytes(tmp_path / "expected")
