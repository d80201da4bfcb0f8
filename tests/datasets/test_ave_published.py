"""AVE as published: orders, labels and negatives in HDF5, and the real annotation files."""

import h5py
import numpy as np
import pytest

from pipeline.datasets import DatasetSettings, build_index, read_index, write_index
from pipeline.datasets.base import expected_files
from pipeline.errors import InputProblems
from pipeline.tasks.avel import row_targets
from tests.wording import each_says, one_says, says

TEN_SECONDS = {"segments": 10, "segment_seconds": 1.0}
LINES = ["Dog&aaa&good&0&10", "Cat&bbb&good&2&7", "Dog&ccc&good&3&5", "Cat&ddd&good&0&0"]
ORDERS = {"train": [2, 0], "val": [1], "test": [3]}
SETS = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}


def write_h5(path, values, key="avadataset"):
    with h5py.File(path, "w") as file:
        file[key] = values


def write_published(root, texts=True, orders=ORDERS, suffix="", header=False):
    root.mkdir(exist_ok=True)
    (root / "Annotations.txt").write_text(
        "\n".join((["Category&VideoID&Quality&StartTime&EndTime"] if header else []) + LINES), encoding="utf-8"
    )
    for split, order in orders.items():
        write_h5(root / f"{split}_order{suffix}.h5", np.array(order), "order")
    for split, name in SETS.items() if texts else ():
        (root / name).write_text("\n".join(LINES[row] for row in ORDERS[split]), encoding="utf-8")
    return root


def build(root, **changes):
    return build_index(DatasetSettings(kind="ave", clips="data/none", annotations=root, **TEN_SECONDS, **changes))


@pytest.fixture(autouse=True)
def at_the_root(repository, monkeypatch):
    monkeypatch.chdir(repository)  # data/none is a path of the project


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("header", [True, False])
def test_splits_come_from_the_order_files_or_the_texts(tmp_path, texts, header):
    index = build(write_published(tmp_path / "ave", texts, header=header))
    assert [row.split for row in index.rows] == ["train", "val", "train", "test"]


def test_a_header_counted_as_a_row_is_noticed(tmp_path):
    shifted = {"train": [2, 1], "val": [3], "test": [0]}
    with pytest.raises(InputProblems) as caught:
        build(write_published(tmp_path / "ave", orders=shifted))
    assert one_says(caught.value.problems, "trainSet.txt: 2 ", "train_order.h5 2", "entry 1")


def test_faults_of_order_files_are_reported_together(tmp_path):
    root = write_published(tmp_path / "ave", texts=False, orders={"train": [0, 4, -1], "val": [1, 1], "test": [0]})
    with pytest.raises(InputProblems) as caught:
        build(root)
    expected = [
        ("train_order.h5: ", "Annotations.txt (0 to 3)", ": 2 (4, -1)"),
        ("val_order.h5: ", "twice", ": 1 (1)"),
        ("test_order.h5: ", "twice", ": 1 (0)"),
    ]
    assert all(one_says(caught.value.problems, *parts) for parts in expected), caught.value.problems
    (root / "val_order.h5").unlink()
    with pytest.raises(InputProblems, match=r"val_order\.h5: "):
        build(root)


def test_the_matching_subsets_have_orders_of_their_own(tmp_path):
    root = write_published(tmp_path / "ave")
    with pytest.raises(InputProblems, match="train_order_match"):
        build(root, split="match")
    write_published(root, orders={"train": [3], "val": [0, 2], "test": [1]}, suffix="_match")
    assert [row.split for row in build(root, split="match").rows] == ["val", "test", "val", "train"]
    assert [row.split for row in build(root).rows] == ["train", "val", "train", "test"]


def test_labels_that_differ_are_named_by_row(tmp_path):
    root = write_published(tmp_path / "ave")
    event = np.zeros((4, 10), np.float32)
    event[0], event[1, 2:7], event[2, 3:6] = 1, 1, 1  # row 2 says one segment more than its line
    write_h5(root / "labels_closs.h5", event)
    write_h5(root / "mil_labels.h5", np.eye(3)[[0, 1, 0, 1]])
    write_h5(root / "labels.h5", np.zeros((4, 10, 5)))
    expected = [
        ("labels_closs.h5: ", "39 of 40 segments", "Annotations.txt"),
        ("labels_closs.h5: ", "differ: 1 (2)"),
        ("mil_labels.h5: ", "4 of 4 clips", "Annotations.txt"),
        ("labels.h5", "(4, 10, 5)", "(4, 10, 3)"),
    ]
    assert each_says([line for line in build(root).health if "h5" in line], expected)


def test_negatives_are_rows_without_events_or_expected_files(tmp_path):
    root = write_published(tmp_path / "ave")
    write_h5(root / "labels_noisy.h5", np.eye(3)[[2, 2]])
    index = build(root, negatives=2)
    assert [(row.clip, row.split, row.events, row.clip_labels) for row in index.rows[4:]] == [
        ("negative-000", "negative", (), ()),
        ("negative-001", "negative", (), ()),
    ]
    with pytest.raises(InputProblems, match=r"2 clips.*dataset\.negatives.*3"):
        build(root, negatives=3)
    write_h5(root / "labels_noisy.h5", np.eye(3)[[2, 1]])
    with pytest.raises(InputProblems, match=r"background: 1 \(1\)"):
        build(root, negatives=2)


def test_without_raw_clips_no_file_is_expected_and_with_them_only_those_of_known_ids(tmp_path):
    root = write_published(tmp_path / "ave")
    index = build(root, negatives=2)
    (tmp_path / "index").mkdir()
    write_index(index, tmp_path / "index")
    rows, _ = read_index(tmp_path / "index")
    none = DatasetSettings(kind="ave", clips="data/none/", annotations=root, **TEN_SECONDS)
    assert expected_files(rows, none).empty
    here = DatasetSettings(kind="ave", clips=tmp_path, annotations=root, **TEN_SECONDS)
    assert list(expected_files(rows, here)["clip"]) == ["aaa", "bbb", "ccc", "ddd"]
    assert not any("without a file" in line for line in index.health)


@pytest.mark.parametrize(("setting", "kind"), [("split", "llp"), ("negatives", "folder"), ("audio_truth", "ave")])
def test_settings_of_another_kind_are_refused(tmp_path, setting, kind):
    value = {"split": "match", "negatives": 1, "audio_truth": "corrected"}[setting]
    with pytest.raises(ValueError, match=setting):
        DatasetSettings(kind=kind, clips=tmp_path, annotations=tmp_path, **TEN_SECONDS, **{setting: value})


@pytest.fixture
def ave(shared):
    root = shared / "annotations" / "ave"
    if not (root / "Annotations.txt").is_file():
        pytest.skip("no AVE annotations here")
    return root


def published(path):
    with h5py.File(path) as file:
        return file["avadataset"][()]


@pytest.mark.parametrize("header", [False, True])
def test_the_labels_that_training_sees_are_the_published_ones(tmp_path, ave, header):
    """Read through the task, as in training; the published text has no header, the data set's zip has one."""
    root = tmp_path / "ave"
    root.mkdir()
    for path in ave.iterdir():
        (root / path.name).symlink_to(path)
    if header:
        (root / "Annotations.txt").unlink()
        (root / "Annotations.txt").write_text(
            "Category&VideoID&Quality&StartTime&EndTime\n" + (ave / "Annotations.txt").read_text(encoding="utf-8"), encoding="utf-8"
        )
    index = build(root)
    assert (len(index.rows), len({row.clip for row in index.rows}), len(index.classes)) == (4143, 4097, 28)
    assert [sum(row.split == split for row in index.rows) for split in ("train", "val", "test")] == [3339, 402, 402]
    events = [[vars(event) for event in row.events] for row in index.rows]
    labels = row_targets(events, index.classes, 10, 1.0).segments.numpy()
    event_bit = published(ave / "labels_closs.h5")
    assert np.count_nonzero((labels < 28) == event_bit) == event_bit.size == 41_430
    weak = published(ave / "mil_labels.h5").argmax(axis=1)
    assert sum(row.clip_labels == (index.classes[number],) for row, number in zip(index.rows, weak, strict=True)) == 4143
    named = np.where(event_bit == 1, weak[:, None], 28)  # both published files together give every segment's class
    assert (labels == named).all()


def test_the_health_report_of_the_published_files(ave):
    health = build(ave).health
    (several,) = (line for line in health if says(line, "several rows", ": 45 ("))
    assert several.partition("(")[2].count(" rows ") == 45
    assert "0f_iTO5t3hU rows 1759 2978 4113" in several
    (leaks,) = (line for line in health if says(line, "test rows", "in train", ": 8 ("))
    assert [int(part.split(",")[0]) for part in leaks.split(" row ")[1:]] == [339, 680, 785, 931, 1374, 2397, 4074, 4113]
    assert one_says(health, "val rows", "in train", ": 10 (")
    assert one_says(health, "without an event", ": 1 (VWi2ENBuTbw row 26, line 27)")
    assert one_says(health, "labels_closs.h5", "41430 of 41430 segments")
    assert one_says(health, "mil_labels.h5", "4143 of 4143 clips")


def test_the_published_matching_subsets(ave):
    index = build(ave, split="match", negatives=178)
    assert [sum(row.split == split for row in index.rows) for split in ("train", "val", "test", "negative")] == [3339, 402, 402, 178]
    lengths = {row.events[0].offset - row.events[0].onset for row in index.rows if row.split == "test"}
    assert lengths <= set(range(2, 10))
    assert {row.clip_labels[0] for row in index.rows if row.split == "val"} == set(index.classes[:3])
    assert not any(says(line, "test rows", "in train") for line in index.health)
