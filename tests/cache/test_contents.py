"""What a cache holds, and what is removed of it."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from pipeline.cache import Cache
from pipeline.cache.contents import DAY, Choice, Sum, held, prune

KEYS = [f"{number:02x}" * 32 for number in range(4)]
UNFINISHED = f"decoded/00/.{KEYS[0]}.0123456789abcdef.partial"
DAYS = [0.5, 3, 20, 90]


@pytest.fixture
def cache(tmp_path):
    """Entries of 0.5, 3, 20 and 90 days, decoded ones larger than features; and the user's own files."""
    cache = Cache(tmp_path / "cache")
    for kind, size in (("decoded", 5000), ("features", 1000)):
        for key, days in zip(KEYS, DAYS, strict=True):
            cache.put(kind, key, {"x": np.zeros(size, np.uint8)})
            moment = time.time() - days * DAY
            os.utime(cache.path(kind, key), (moment, moment))
    for name in (
        "thesis.npz",
        "decoded/thesis.npz",
        "decoded/00/thesis.npz",
        "decoded/00/thesis.partial",
        UNFINISHED,
        "photos/20/2024.npz",
    ):
        (cache.root / name).parent.mkdir(parents=True, exist_ok=True)
        (cache.root / name).write_bytes(b"ten years")
    return cache


def left(cache):
    return {(each.kind, each.key) for each in cache.entries()}


def test_entries_are_counted_by_kind_and_age_and_need(cache):
    found = held(cache, {"decoded": {KEYS[0], "ff" * 32}, "features": set()})
    assert list(found) == ["decoded", "features"]
    size = cache.path("decoded", KEYS[0]).stat().st_size
    assert found["decoded"].all == Sum(4, 4 * size)
    assert found["decoded"].by_age == [Sum(1, size)] * 4
    assert found["decoded"].needed == Sum(1, size)
    assert found["features"].needed == Sum()


@pytest.mark.parametrize(
    ("choice", "gone"),
    [
        (Choice(older_than=10 * DAY), {("decoded", 2), ("decoded", 3), ("features", 2), ("features", 3)}),
        (Choice(kinds=["decoded"]), {("decoded", number) for number in range(4)}),
        (Choice(older_than=2 * DAY, kinds=["features"], kept={"features": {KEYS[2]}}), {("features", 1), ("features", 3)}),
        (Choice(kept={"decoded": set(KEYS)}, whole=["features"]), set()),
    ],
)
def test_what_is_chosen_goes_and_nothing_else(cache, choice, gone):
    before, gone = left(cache), {(kind, KEYS[number]) for kind, number in gone}
    others = {path for path in cache.root.rglob("*") if path.is_file()} - {cache.path(*each) for each in before}
    counted = prune(cache, choice, dry_run=True)
    assert left(cache) == before
    assert prune(cache, choice) == counted
    assert before - left(cache) == gone
    assert sum(each.entries for each in counted.values()) == len(gone)
    assert all(path.exists() for path in others)


def test_a_use_makes_an_entry_young_and_is_noted_once_a_minute(cache):
    path = cache.path("features", KEYS[3])
    cache.get("features", KEYS[3])
    assert time.time() - path.stat().st_mtime < 10
    noted = time.time() - 30
    os.utime(path, (noted, noted))
    cache.facts("features", KEYS[3])
    assert path.stat().st_mtime == pytest.approx(noted)
    assert cache.get("features", KEYS[3])[0]["x"].size == 1000


def test_what_killed_processes_left_is_found_when_it_is_old(cache):
    partial = cache.root / UNFINISHED
    assert list(cache.local.leftovers(DAY)) == []
    for path in cache.root.rglob("*.partial"):
        os.utime(path, (0, 0))
    assert list(cache.local.leftovers(DAY)) == [(partial, len("ten years"))]
