import json

import pytest

from pipeline.datasets import DatasetSettings, build_index, read_index, write_index
from pipeline.errors import InputProblems
from tests.wording import each_says, one_says


def event(start, end, label="singing", number=0):
    return {"segment": [start, end], "label": label, "label_id": number}


VIDEOS = {
    "-Rjmgv0O_p0": {"duration": 47.68, "subset": "train", "annotations": [event(13.01, 15.7), event(15.0, 60.5 - 13, "dog", 1)]},
    "video000002": {"duration": 10, "subset": "validation", "annotations": [event(0, 10), event(9, 10)]},
    "video000003": {"duration": 60, "subset": "test", "annotations": [event(1, 2, "dog", 1), event(1, 2, "dog", 1)]},
    "video000004": {"duration": 12.5, "subset": "test", "annotations": []},
}


def build(root, content, segments=60):
    root.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps({"version": "unav100", "database": content})
    (root / "unav100_annotations.json").write_text(text, encoding="utf-8")
    return build_index(DatasetSettings(kind="unav100", clips=root, annotations=root, segments=segments, segment_seconds=1.0))


def test_videos_keep_their_length_and_their_events(tmp_path):
    index = build(tmp_path / "unav", VIDEOS)
    assert index.classes == ["singing", "dog"]  # by label_id
    assert [(row.clip, row.split, row.seconds) for row in index.rows] == [
        ("-Rjmgv0O_p0", "train", 47.68),
        ("video000002", "val", 10.0),
        ("video000003", "test", 60.0),
        ("video000004", "test", 12.5),
    ]
    assert [(e.modality, e.label, e.onset, e.offset) for e in index.rows[0].events] == [
        ("av", "singing", 13.01, 15.7),
        ("av", "dog", 15.0, 47.5),
    ]
    (tmp_path / "out").mkdir()
    write_index(index, tmp_path / "out")
    assert read_index(tmp_path / "out")[0]["seconds"].tolist() == [47.68, 10.0, 60.0, 12.5]


def test_defects_that_do_not_stop_are_in_the_health_report(tmp_path):
    (tmp_path / "unav").mkdir()
    (tmp_path / "unav" / "-Rjmgv0O_p0.mp4").write_bytes(b"x")
    expected = [
        ("without an event", ": 1 (video000004)"),
        ("twice", ": 1 (video000003 dog 1-2)"),
        ("overlapping", ": 1 (video000002)"),
        ("dataset.segments", "30 s", ": 2 (-Rjmgv0O_p0, video000003)"),
        ("without a file", ": 3 (video000002, video000003, video000004)"),
    ]
    assert each_says(build(tmp_path / "unav", VIDEOS, segments=30).health, expected)


def test_a_class_without_a_training_event_is_named(tmp_path):
    videos = {"a": {"duration": 9, "subset": "train", "annotations": [event(0, 1)]}, **{c: VIDEOS[c] for c in ("video000003",)}}
    assert "classes without a training event, which cannot be learned: 1 (dog)" in build(tmp_path / "unav", videos).health
    assert not [line for line in build(tmp_path / "unav", VIDEOS).health if "training event" in line]


@pytest.mark.fault(13)
def test_all_faults_are_reported_at_once_with_their_place(tmp_path):
    bad = {
        "../etc/passwd": {"duration": 10, "subset": "train", "annotations": []},
        "b": {"duration": "long", "subset": "dev", "annotations": [event(5, 3), event(0, 1, "", -1), {"segment": [1]}, 7]},
        "c": {"duration": 10, "subset": "test", "annotations": [event(5, 11), event(float("nan"), 3)]},
        "d": [],
    }
    with pytest.raises(InputProblems) as caught:
        build(tmp_path / "unav", bad)
    expected = [
        ("database.../etc/passwd: ",),
        ("database.b.duration: ", "'long'"),
        ("database.b.subset: ", "'dev'", "train, validation, test"),
        ("database.b.annotations[0].segment: ", "5-3 s"),
        ("database.b.annotations[1].label: ", "''"),
        ("database.b.annotations[1].label_id: ", "-1"),
        ("database.b.annotations[2].segment: ", "[1]"),
        ("database.b.annotations[2].label: ", "None"),
        ("database.b.annotations[2].label_id: ", "None"),
        ("database.b.annotations[3]: ", "mapping"),
        ("database.c.annotations[0].segment: ", "5-11 s", "0-10 s"),
        ("database.c.annotations[1].segment: ", "[nan, 3]"),
        ("database.d: ", "mapping"),
    ]
    assert all(one_says(caught.value.problems, *parts) for parts in expected), caught.value.problems
    assert len(caught.value.problems) == len(expected)


def test_names_and_numbers_of_classes_belong_together(tmp_path):
    events = [event(0, 1, "dog", 0), event(0, 1, "cat", 0), event(0, 1, "dog", 3)]
    with pytest.raises(InputProblems) as caught:
        build(tmp_path / "unav", {"a": {"duration": 10, "subset": "train", "annotations": events}})
    for parts in (("label_id 0 ", "'cat', 'dog'"), ("label 'dog' ", "0, 3"), ("label_id 1, 2",)):
        assert one_says(caught.value.problems, *parts), parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "JSON"),
        ("[]", "`database`"),
        ('{"database": {"a": {}, "a": {}}}', "'a'.*twice"),
    ],
)
def test_files_that_are_no_annotations(tmp_path, text, words):
    with pytest.raises(InputProblems, match=words):
        build(tmp_path / "unav", text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputProblems, match=r"unav100_annotations\.json"):
        build_index(DatasetSettings(kind="unav100", clips=tmp_path, annotations=tmp_path, segments=60, segment_seconds=1.0))


def test_the_published_file_has_the_published_counts(shared):
    root = shared / "annotations" / "unav100"
    if not root.is_dir():
        pytest.skip("no UnAV-100 annotations here")
    index = build_index(DatasetSettings(kind="unav100", clips=root, annotations=root, segments=60, segment_seconds=1.0))
    count = {split: [row for row in index.rows if row.split == split] for split in ("train", "val", "test")}
    assert {split: len(rows) for split, rows in count.items()} == {"train": 6_489, "val": 2_134, "test": 2_167}
    assert {split: sum(len(row.events) for row in rows) for split, rows in count.items()} == {"train": 18_123, "val": 6_036, "test": 5_900}
    assert len(index.classes) == 100
    assert sum(row.clip.startswith("-") for row in index.rows) > 100  # ids as YouTube gives them
    assert not any(words in line for line in index.health for words in ("dataset.segments", "without an event", "twice"))
    assert one_says(index.health, "overlapping", ": 1 ")
