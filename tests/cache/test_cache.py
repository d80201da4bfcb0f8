import hashlib
import json
import os
import zipfile

import numpy as np
import pytest

from pipeline.cache import CACHE_VARIABLE, Cache, CacheError, default_root, entry, file_sha256, fingerprint
from tests.wording import says

KEY = "ab" * 32


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_an_entry_comes_back_as_it_was_put(cache):
    arrays = {"frames": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "waveform": np.linspace(-1, 1, 7, dtype=np.float32)}
    cache.put("decoded", KEY, arrays, {"status": "ok", "seconds": 9.5})
    read, facts = cache.get("decoded", KEY)
    assert facts == {"status": "ok", "seconds": 9.5}
    assert cache.facts("decoded", KEY) == facts
    assert read.keys() == arrays.keys()
    for name in arrays:
        np.testing.assert_array_equal(read[name], arrays[name])
        assert read[name].dtype == arrays[name].dtype


def test_an_entry_is_a_plain_npz_file_that_numpy_reads_and_would_write_alike(cache, tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        "columns": np.asfortranarray(random.random((5, 3, 2))),
        "empty": np.zeros((0, 4), np.float32),
        "frames": random.integers(0, 256, (700, 31, 3), np.uint8),  # longer than the longest header
        "marks": np.array([True, False]),
        "rate": np.array(16_000),
        "turned": random.random((4, 6)).astype(np.float16)[::-1, ::2],
        "words": np.array(["dog", "Änderung"]),
    }
    cache.put("decoded", KEY, arrays, {"status": "ok"})
    path = cache.path("decoded", KEY)
    np.savez(tmp_path / "theirs.npz", facts=np.array(json.dumps({"arrays": sorted(arrays), "status": "ok"})), **arrays)
    assert path.read_bytes() == (tmp_path / "theirs.npz").read_bytes()
    read, _ = cache.get("decoded", KEY)
    with np.load(path) as theirs:
        for name, array in arrays.items():
            for found in (read[name], theirs[name]):
                np.testing.assert_array_equal(found, array)
                assert (found.dtype, found.shape) == (array.dtype, array.shape)


def test_an_entry_that_claims_more_than_its_file_holds_is_damaged_and_asks_for_no_memory(cache, monkeypatch):
    cache.put("features", KEY, {"features": np.ones(3)})
    stated = zipfile.ZipFile.infolist

    def swollen(file):
        members = stated(file)
        members[-1].file_size = 2**45
        return members

    monkeypatch.setattr(zipfile.ZipFile, "infolist", swollen)
    assert cache.get("features", KEY) is None
    assert not os.path.exists(cache.path("features", KEY))


def test_python_objects_are_neither_written_nor_read(cache):
    objects = {"features": np.array([{"run": "me"}], dtype=object)}
    with pytest.raises(ValueError, match="Python objects"):
        cache.put("features", KEY, objects)
    path = cache.path("features", KEY)
    np.savez(path, allow_pickle=True, facts=np.array("{}"), **objects)
    assert cache.get("features", KEY) is None


def test_kinds_do_not_mix_and_an_absent_entry_is_none(cache):
    cache.put("decoded", KEY, {})
    assert cache.has("decoded", KEY)
    assert not cache.has("features", KEY)
    assert cache.get("features", KEY) is None
    assert cache.facts("features", KEY) is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
@pytest.mark.fault(23)
def test_a_damaged_entry_reads_as_absent_and_is_removed_with_a_sentence(cache, damage, capsys):
    cache.put("features", KEY, {"features": np.random.default_rng(0).random(5000).astype(np.float32)})
    path = cache.path("features", KEY)
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "empty":
        content = bytearray()
    else:
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    assert cache.get("features", KEY) is None
    assert not cache.has("features", KEY)
    assert says(capsys.readouterr().err, f"{path} is damaged", "removed")


@pytest.mark.fault(23)
def test_whichever_bit_of_an_entry_flips_it_reads_as_it_was_or_not_at_all(cache):
    values = np.arange(3, dtype=np.float32)
    cache.put("features", KEY, {"features": values}, {"status": "ok"})
    path = cache.path("features", KEY)
    whole, absent = path.read_bytes(), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        only = cache.facts("features", KEY)
        assert only in (None, {"status": "ok"})
        path.write_bytes(damaged)
        entry = cache.get("features", KEY)
        absent += entry is None
        if entry is not None:
            assert entry[1] == {"status": "ok"}
            assert list(entry[0]) == ["features"]
            np.testing.assert_array_equal(entry[0]["features"], values)
    assert absent > len(whole) / 3  # alignment padding and dates of the zip are nobody's content


def test_a_cache_that_cannot_be_reached_is_no_damage(cache, tmp_path, monkeypatch):
    """A file in place of a folder; and an entry that may not be read, which stays."""
    cache.put("features", KEY, {"features": np.ones(3)})
    (tmp_path / "file").write_bytes(b"")
    (cache.root / "decoded").write_bytes(b"")
    for blocked, kind in ((Cache(tmp_path / "file"), "features"), (cache, "decoded")):
        with pytest.raises(CacheError, match=r"(Not a directory|File exists)"):
            blocked.put(kind, KEY, {})
    denied = PermissionError(13, "Permission denied")
    monkeypatch.setattr("pipeline.cache.local.open", lambda *_: (_ for _ in ()).throw(denied), raising=False)
    for read in (cache.get, cache.facts):
        with pytest.raises(CacheError, match=r"Permission denied"):
            read("features", KEY)
    assert cache.has("features", KEY)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("cannot schedule new futures after interpreter shutdown"), ImportError()])
def test_what_says_nothing_about_the_bytes_is_no_damage(cache, monkeypatch, error):
    cache.put("features", KEY, {"features": np.ones(3)})
    monkeypatch.setattr(zipfile, "ZipFile", lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        cache.get("features", KEY)
    assert cache.has("features", KEY)


def test_the_same_entry_has_the_same_bytes(cache):
    arrays = {"features": np.ones((3, 2), np.float16)}
    cache.put("features", KEY, arrays, {"b": 1, "a": 2})
    first = cache.path("features", KEY).read_bytes()
    cache.put("features", KEY, arrays, {"a": 2, "b": 1})
    assert cache.path("features", KEY).read_bytes() == first


@pytest.mark.fault(22)
def test_nothing_is_left_of_a_failed_write(cache, monkeypatch):
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(CacheError, match=r"No space left on device"):
        cache.put("features", KEY, {})
    assert [path for path in cache.root.rglob("*") if path.is_file()] == []


def test_fingerprint_knows_content_but_not_the_order_of_keys():
    assert fingerprint(1, {"a": 1, "b": [2]}) == fingerprint(1, {"b": [2], "a": 1})
    assert fingerprint(1, {"a": 1}) != fingerprint(1, {"a": 2})
    assert len(fingerprint("x")) == 64


def test_file_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"clip")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"clip").hexdigest()


def test_the_environment_moves_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert default_root() == tmp_path / "elsewhere"
    assert Cache().root == tmp_path / "elsewhere"
    assert Cache(tmp_path / "param").root == tmp_path / "param"


def test_a_parser_that_two_threads_use_at_once_is_asked_again(cache, monkeypatch):
    """An intermittent fault of Python 3.11 (gh-106905) removes no entry and blames no clip."""
    values = np.arange(3, dtype=np.float32)
    cache.put("features", KEY, {"features": values})
    parse, tries = np.lib.format.read_array_header_1_0, []

    def sometimes(*arguments, **options):
        tries.append(1)
        if len(tries) < 3:
            raise SystemError("AST constructor recursion depth mismatch (before=48, after=44)")
        return parse(*arguments, **options)

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", sometimes)
    entry._header.cache_clear()  # headers seen before are not parsed
    arrays, _ = cache.get("features", KEY)
    assert np.array_equal(arrays["features"], values)
    assert len(tries) == 4  # "facts" has a header too
