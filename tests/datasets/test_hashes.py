"""Hashes that `index` remembers: a file is read again exactly when it may have changed."""

import hashlib
import itertools
import os
from pathlib import Path

import pytest

from pipeline.cache import Cache, file_sha256
from pipeline.datasets import hashes
from pipeline.datasets.base import Row
from pipeline.datasets.hashes import Content, hash_files
from pipeline.datasets.writing import equal_bytes


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED", 0)
    paths = [tmp_path / "clips" / name for name in ("a.mp4", "b.mp4", "Ärger.mp4")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(path.name.encode())
    return [str(path) for path in paths]


@pytest.fixture
def read(monkeypatch):
    """The files that were read, in the order of their names."""
    seen = []
    monkeypatch.setattr(hashes, "file_sha256", lambda path: seen.append(path) or file_sha256(path))

    def taken():
        names = sorted(os.path.basename(path) for path in seen)
        seen.clear()
        return names

    return taken


def true(files):
    return {file: Content(os.path.getsize(file), hashlib.sha256(Path(file).read_bytes()).hexdigest()) for file in files}


def test_only_files_that_are_new_or_changed_are_read_again(files, read, tmp_path):
    cache = Cache(tmp_path / "cache")
    assert hash_files(files, cache, tmp_path) == true(files)
    assert read() == ["a.mp4", "b.mp4", "Ärger.mp4"]
    assert hash_files(files, cache, tmp_path) == true(files)
    assert read() == []
    before = os.stat(files[1])
    with open(files[1], "r+b") as stream:
        stream.write(b"X")
    os.utime(files[1], ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that keeps dates does
    more = str(tmp_path / "clips" / "c.mp4")
    with open(more, "wb") as stream:
        stream.write(b"more")
    assert hash_files([*files, more], cache, tmp_path) == true([*files, more])
    assert read() == ["b.mp4", "c.mp4"]
    os.remove(more)
    found = hash_files([*files, more], cache, tmp_path)
    assert found[more] == Content(None, None)
    hash_files(files)
    assert read() == ["a.mp4", "b.mp4", "Ärger.mp4"], "without a cache nothing is remembered"


def test_a_file_that_has_just_changed_is_read_again_next_time(files, read, tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED", 10**12)
    cache = Cache(tmp_path / "cache")
    for _ in range(2):
        assert hash_files(files, cache, tmp_path) == true(files)
        assert read() == ["a.mp4", "b.mp4", "Ärger.mp4"]


def test_equal_bytes_under_many_ids_are_counted_pair_by_pair_without_listing_the_pairs():
    splits = {"train": [f"t{n}" for n in range(2000)] + ["both"], "val": ["both", *(f"v{n}" for n in range(1500))], "test": ["t3", "only"]}
    rows = [Row(clip, split, f"{split}/{clip}.mp4") for split, clips in splits.items() for clip in clips]
    contents = {row.file: Content(3, "other" if row.clip == "only" else "same") for row in rows}
    lines = equal_bytes([*rows, *rows[:5]], contents)
    kept = {split: [clip for clip in clips if clip != "only"] for split, clips in splits.items()}
    for line, (one, other) in zip(lines, itertools.combinations(kept, 2), strict=True):
        pairs = [f"{a} = {b}" for a in kept[one] for b in kept[other] if a != b]
        assert line.startswith(f"clips of {one} and {other} with the same bytes under two ids: {len(pairs)} ({', '.join(pairs[:20])} and")
