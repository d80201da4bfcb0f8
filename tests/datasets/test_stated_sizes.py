"""Sizes that a file only states, and work that grows faster than a file: bounded before memory or time are spent, one sentence each."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc

import h5py
import numpy as np
import pytest

from pipeline.datasets import DatasetSettings, build_index, write_index
from pipeline.datasets.arrays import LARGEST_CHUNK, npy_header, open_dataset, read_array
from pipeline.datasets.ave_arrays import read_orders
from pipeline.datasets.files import match_files
from pipeline.errors import InputProblems
from tests.wording import each_says, one_says, says

MEBIBYTE = 2**20


def build_unav(root, database):
    root.mkdir(exist_ok=True)
    (root / "unav100_annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    return build_index(DatasetSettings(kind="unav100", clips=root, annotations=root, segments=60, segment_seconds=1.0))


def video(*numbers, duration=10):
    annotations = [{"segment": [0, 5], "label": f"class {number}", "label_id": number} for number in numbers]
    return {"duration": duration, "subset": "train", "annotations": annotations}


def test_a_class_number_of_ten_thousand_millions_is_counted_not_listed(tmp_path):
    tracemalloc.start()
    try:
        with pytest.raises(InputProblems) as caught:
            build_unav(tmp_path, {"a": video(0, 2, 10_000_000_000)})
        assert tracemalloc.get_traced_memory()[1] < 20 * MEBIBYTE
    finally:
        tracemalloc.stop()
    first = ", ".join(map(str, [1, *range(3, 22)]))
    expected = [(f"{tmp_path / 'unav100_annotations.json'}: ", f"label_id {first} ", "9999999978")]
    assert each_says(caught.value.problems, expected)


def test_a_duration_of_hundreds_of_digits_is_refused(tmp_path):
    with pytest.raises(InputProblems, match=r"database\.a\.duration: 1000.*positive"):
        build_unav(tmp_path, {"a": video(0, duration=10**400)})


def test_tens_of_thousands_of_classes_are_read_in_their_order(tmp_path):
    """Work that grew with the square of their number took minutes here."""
    index = build_unav(tmp_path, {"a": video(*reversed(range(20_000)))})
    assert index.classes == [f"class {number}" for number in range(20_000)]
    doubled = video(*range(20_000))
    doubled["annotations"] += [{"segment": [0, 5], "label": "class 7", "label_id": 3}]
    with pytest.raises(InputProblems) as caught:
        build_unav(tmp_path, {"a": doubled})
    assert each_says(caught.value.problems, [("label_id 3 ", "'class 3', 'class 7'"), ("label 'class 7' ", "3, 7")])


def write_orders(root, **content):
    for split in ("train", "val", "test"):
        with h5py.File(root / f"{split}_order.h5", "w") as file:
            file.create_dataset("order", **content.get(split, {"data": np.zeros(0, np.int64)}))


@pytest.mark.fault(17)
def test_an_order_file_of_a_few_kilobytes_that_asks_for_gigabytes_is_refused_unread(tmp_path):
    write_orders(tmp_path, train={"shape": (2_000_000_000,), "dtype": "f8", "chunks": (1000,), "fillvalue": 0.0})
    assert (tmp_path / "train_order.h5").stat().st_size < 10_000
    problems: list[str] = []
    read_orders(tmp_path, "", 4143, problems)
    assert each_says(problems, [(f"{tmp_path / 'train_order.h5'}: ", "2000000000", "42430")])


def test_a_chunk_of_gigabytes_is_refused_however_short_the_array(tmp_path):
    path = tmp_path / "order.h5"
    length = LARGEST_CHUNK // 8 + 1
    with h5py.File(path, "w") as file:
        file.create_dataset("order", shape=(10,), maxshape=(None,), dtype="f8", chunks=(length,), compression="gzip")
    with pytest.raises(ValueError, match=f"{8 * length} bytes"):
        read_array(path, (10,))


def test_invalid_and_duplicate_entries_are_found_in_a_long_file(tmp_path):
    """Work that grew with the square of their number took minutes here."""
    rows = 20_000
    values = np.concatenate([np.arange(rows), np.arange(rows), np.arange(rows, 5 * rows)])
    write_orders(tmp_path, train={"data": values, "compression": "gzip"})
    problems: list[str] = []
    orders = read_orders(tmp_path, "", rows, problems)
    assert orders["train"] == [*range(rows), *range(rows)]
    assert says(problems[0], f"{tmp_path / 'train_order.h5'}: ", f"Annotations.txt (0 to {rows - 1})", f": {4 * rows} ({rows}, ")
    assert says(problems[1], f"{tmp_path / 'train_order.h5'}: ", "twice", f": {rows} (0, 1, 2, ")


def test_a_file_of_many_keys_is_answered_in_a_sentence(tmp_path):
    path = tmp_path / "order.h5"
    with h5py.File(path, "w") as file:
        for number in range(500):
            file[f"k{number:03d}"] = [0]
    with pytest.raises(ValueError, match=r"k000, k001, .*k019, \.\.\.$"), open_dataset(path):
        pass


def npy(path, shape: str):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64))


@pytest.mark.parametrize(
    ("shape", "words"),
    [("(4611686018427387904, 4)", "192 of 147573952589676413056 bytes"), ("(-1, 8)", r"\(-1, 8\)")],
)
@pytest.mark.fault(17)
def test_a_shape_that_overflows_or_is_negative_is_refused(tmp_path, shape, words):
    npy(tmp_path / "a.npy", shape)
    with pytest.raises(ValueError, match=words):
        npy_header(tmp_path / "a.npy")


def test_pipes_are_never_opened(tmp_path):
    """Opening one would wait for a writer for ever."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a.mp4", "b.mp4", "x.npy"):
        os.mkfifo(clips / name)
    (clips / "link.mp4").symlink_to("a.mp4")
    (clips / "c.mp4").write_bytes(b"c")
    found = match_files(clips, ["a", "b", "c", "link"])
    assert found.files == {"a": None, "b": None, "c": f"{clips}/c.mp4", "link": None}
    assert found.irregular == [f"{clips}/{name}" for name in ("a.mp4", "b.mp4", "link.mp4")]
    with pytest.raises(ValueError, match="pipe"):
        npy_header(clips / "x.npy")
    (tmp_path / "Annotations.txt").write_text("Dog&a&good&0&10\nDog&c&good&0&10\n", encoding="utf-8")
    for name in ("trainSet.txt", "valSet.txt", "testSet.txt"):
        (tmp_path / name).write_text("Dog&a&good&0&10\n" if name == "trainSet.txt" else "", encoding="utf-8")
    index = build_index(DatasetSettings(kind="ave", clips=clips, annotations=tmp_path, segments=10, segment_seconds=1.0))
    listed = ", ".join(found.irregular)
    assert one_says(index.health, "pipes", "left out", f": 3 ({listed})")
    assert [row.file for row in index.rows] == [None, f"{clips}/c.mp4"]
    write_index(index, tmp_path)
    folder = build_index(DatasetSettings(kind="folder", clips=clips, annotations=clips, segments=10, segment_seconds=1.0))
    assert [row.clip for row in folder.rows] == ["c.mp4"]
