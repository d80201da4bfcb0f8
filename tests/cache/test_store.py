"""A cache at a URL, on a real S3 server on this machine."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.cache import Cache, CacheError, Deliveries, Store
from pipeline.cache.entry import BEGINNING
from pipeline.cache.local_copy import LocalCopy
from pipeline.cache.objects import TRIES, Objects
from tests.wording import says

KEY = "ab" * 32
VALUES = {"features": np.arange(12, dtype=np.float32).reshape(3, 4)}


@pytest.fixture(scope="module")
def connections():
    return {}


@pytest.fixture
def machine(bucket, tmp_path, connections):
    """Makes the cache as a machine has it: the store is everybody's, the copy its own; a connection takes a tenth of a second to make."""

    def make(name="here", gb=1.0, url="s3://clips/lab"):
        cache = Cache(Store(url, tmp_path / name, round(gb * 1e9)))
        cache._entries._objects = connections[url] = connections.get(url) or Objects(url)
        return cache

    return make


def files(cache):
    return sorted(path.name for path in cache.root.local.rglob("*.npz"))


def objects(cache):
    return [f"{each.kind}/{each.key}" for each in cache.entries()]


def test_what_one_machine_puts_every_machine_reads(machine, tmp_path):
    machine("one").put("features", KEY, VALUES, {"machine": "one"})
    other = machine("other")
    assert other.has("features", KEY)
    assert not other.has("decoded", KEY)
    assert other.facts("features", KEY) == {"machine": "one"}
    assert files(other) == []  # nothing was read yet but the facts
    arrays, facts = other.get("features", KEY)
    np.testing.assert_array_equal(arrays["features"], VALUES["features"])
    assert facts == {"machine": "one"}
    directory = Cache(tmp_path / "directory")
    directory.put("features", KEY, VALUES, {"machine": "one"})
    for cache in (machine("one"), other):  # the bytes are those of a cache in a directory
        assert cache.path("features", KEY).read_bytes() == directory.path("features", KEY).read_bytes()
    assert objects(other) == [f"features/{KEY}"]
    other.remove("features", KEY)
    assert objects(other) == files(other) == []
    assert machine("third").get("features", KEY) is None


def test_an_entry_is_put_whole_by_one_request_that_replaces_nothing(machine, bucket):
    machine().put("features", KEY, VALUES)
    assert bucket.asked("PUT") == [f"/clips/lab/features/ab/{KEY}.npz"]
    store = machine()._entries.objects
    before = store.read("features", KEY)
    store.write("features", KEY, b"of another writer")
    assert store.read("features", KEY) == before


def test_entries_are_brought_once_and_facts_without_the_rest(machine, bucket):
    machine("one").put("decoded", KEY, {"frames": np.zeros(4 * BEGINNING, np.uint8)}, {"status": "ok"})
    other = machine("other")
    bucket.requests.clear()
    assert other.facts_of("decoded", [KEY, "cd" * 32]) == {KEY: {"status": "ok"}}
    assert other.present("decoded", [KEY, "cd" * 32]) == {KEY}
    assert {range for method, _, range in bucket.requests if method == "GET"} == {"bytes=0-0", f"bytes=0-{BEGINNING - 1}"}
    other.get("decoded", KEY)
    bucket.requests.clear()
    assert other.get("decoded", KEY)[1] == other.facts("decoded", KEY) == {"status": "ok"}
    assert bucket.requests == []


def test_of_many_keys_the_folders_are_listed(machine, bucket, monkeypatch):
    monkeypatch.setattr("pipeline.cache.shared.MANY", 4)
    keys = [f"{number:02x}" * 32 for number in range(8)]
    for key in keys[:3]:
        machine("one").put("features", key, VALUES, {"machine": key})
    machine("one").put("decoded", keys[3], {})
    other = machine("other")
    other.stage("features", keys[4], VALUES, {"machine": keys[4]})
    bucket.requests.clear()
    assert other.present("features", keys) == {*keys[:3], keys[4]}
    assert [path for method, path, _ in bucket.requests if path.endswith(".npz") and method != "PUT"] == []
    assert other.facts_of("features", keys) == {key: {"machine": key} for key in (*keys[:3], keys[4])}
    assert other.present("features", []) == set()


def test_facts_longer_than_the_beginning_are_read_all_the_same(machine):
    machine("one").put("decoded", KEY, {}, {"reason": "x" * BEGINNING})
    assert machine("other").facts("decoded", KEY) == {"reason": "x" * BEGINNING}


@pytest.mark.fault(23)
def test_a_damaged_object_or_copy_is_removed_with_a_sentence_and_reads_as_absent(machine, capsys):
    one = machine("one")
    one.put("features", KEY, VALUES)
    path = one.path("features", KEY)
    path.write_bytes(path.read_bytes()[:-40])
    assert one.get("features", KEY) is not None  # the object is whole, and is brought again
    assert says(capsys.readouterr().err, f"{path} is damaged")
    other = machine("other")
    store = other._entries.objects
    store.remove("features", KEY)
    store.write("features", KEY, path.read_bytes()[:-40])
    for read in (other.facts, other.get):
        read("features", KEY)
    assert says(capsys.readouterr().err, f"s3://clips/lab/features/{KEY} is damaged", "removed")
    assert objects(other) == []


def test_one_write_in_ten_that_fails_is_made_again(machine, bucket):
    counts: Counter[str] = Counter()

    def fails(method, path):
        counts[method] += 1
        return 500 if method == "PUT" and counts["PUT"] % 10 == 3 else None

    bucket.fails = fails
    keys = [f"{number:02x}" * 32 for number in range(20)]
    cache = machine()
    with Deliveries() as deliveries:
        for key in keys:
            cache.stage("features", key, VALUES)
            deliveries.add(cache, "features", key)
    assert {each.key for each in machine("other").entries()} == set(keys)
    assert len(bucket.asked("PUT")) > len(keys)


def test_a_store_that_fails_is_a_clear_stop_and_takes_later_what_was_finished(machine, bucket):
    bucket.fails = lambda method, path: 500 if method == "PUT" else None
    cache = machine()
    with pytest.raises(CacheError) as error, Deliveries() as deliveries:
        cache.stage("features", KEY, VALUES)
        deliveries.add(cache, "features", KEY)
    assert says(str(error.value), "s3://clips/lab", "written", f"{TRIES} tries", "internal error", "kept", "run again")
    assert bucket.asked("PUT") == [f"/clips/lab/features/ab/{KEY}.npz"] * TRIES
    bucket.fails = lambda method, path: None
    assert objects(machine()) == []
    assert machine().present("features", [KEY]) == {KEY}
    assert objects(machine("other")) == [f"features/{KEY}"]


def test_a_url_without_rights_or_bucket_is_said_at_once_and_without_credentials(machine, bucket):
    bucket.fails = lambda method, path: 403
    with pytest.raises(CacheError) as error:
        machine().check()
    assert says(str(error.value), "s3://clips/lab", "written", "Access Denied", "rights")
    assert len(bucket.requests) == 1
    bucket.fails = lambda method, path: None
    elsewhere = machine(url="s3://elsewhere/lab")
    for call in (elsewhere.check, lambda: list(elsewhere.entries())):
        with pytest.raises(CacheError, match=r"s3://elsewhere/lab .* no such bucket"):
            call()
    machine().check()
    assert objects(machine()) == []


def test_an_address_with_a_password_in_the_environment_is_not_repeated(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hush@127.0.0.1:1")
    with pytest.raises(CacheError) as error:
        Cache(Store("s3://clips/lab", tmp_path, 0)).check()
    assert not any(secret in str(error.value) for secret in ("hush", "whisper", "AKIANOBODY"))


def test_the_copy_keeps_its_bound_and_what_was_used_last(machine, tmp_path):
    size = 10_000
    cache = machine(gb=5.5 * size / 1e9)
    keys = [f"{number:02x}" * 32 for number in range(12)]
    for number, key in enumerate(keys):
        cache.put("features", key, {"features": np.zeros(size - 600, np.uint8)})
        if cache.path("features", keys[0]).exists():
            os.utime(cache.path("features", keys[0]), (2e9 + number, 2e9 + number))  # it is used again and again
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.npz")) <= 5.5 * size
        os.utime(cache.path("features", key), (1e9 + number, 1e9 + number))
    held = {path.stem for path in tmp_path.rglob("*.npz")}
    assert {keys[0], *keys[-2:]} <= held
    assert len(objects(cache)) == 12
    none = machine("small", gb=0)
    assert none.get("features", keys[5])[0]["features"].size == size - 600
    none.put("features", KEY, VALUES)
    assert files(none) == []


def test_machines_that_share_one_copy_keep_its_bound(tmp_path):
    """Threads stand for the processes: each has a copy object, and so a lock, of its own."""

    def work(worker):
        copy = LocalCopy(tmp_path / "copy", 20_000)
        for number in range(40):
            key = f"{(7 * number + worker) % 100:02d}" * 32
            made = tmp_path / f"made-{worker}"
            made.write_bytes(b"x" * 1000)
            copy.take(made, "features", key)
            with copy._counted():  # a listing beside another's changes would see entries of two moments
                assert sum(each.size for each in copy.entries()) <= 20_000

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(list(LocalCopy(tmp_path / "copy", 20_000).entries())) >= 10


def test_a_copy_on_a_full_disk_is_left_out_with_a_sentence(machine, monkeypatch, capsys):
    machine("one").put("features", KEY, VALUES)
    other = machine("other")
    monkeypatch.setattr(LocalCopy, "take", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for _ in range(2):
        np.testing.assert_array_equal(other.get("features", KEY)[0]["features"], VALUES["features"])
    assert capsys.readouterr().err.count("the local copy of s3://clips/lab is not used") == 1


def test_where_a_put_may_be_seen_half_an_object_is_written_aside_and_moved(monkeypatch):
    store = Objects("memory://lab")
    seen = []
    move = store._fs.mv
    monkeypatch.setattr(store._fs, "mv", lambda made, path: (seen.append((made, store.has("features", KEY))), move(made, path)))
    store.write("features", KEY, b"entry")
    assert store.read("features", KEY) == b"entry"
    [(made, there)] = seen
    assert (made.endswith(".partial"), there) == (True, False)
    assert [each.key for each in store.entries()] == [KEY]
    store.remove("features", KEY)
