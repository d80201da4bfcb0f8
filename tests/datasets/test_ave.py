import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets import DatasetSettings, build_index, read_index, write_index
from pipeline.datasets.ave import parse_line
from pipeline.errors import InputProblems
from tests.wording import each_says, one_says

TEN_SECONDS = {"segments": 10, "segment_seconds": 1.0}
LINES = ["Dog&aaaaaaaaaaa&good&0&10", "Cat&bbbbbbbbbbb&good&2&7", "Dog&ccccccccccc&good&3&5", "Cat&ddddddddddd&good&0&9"]


def write_ave(root, lines=LINES, header=True, splits=None, clips=None):
    root.mkdir(exist_ok=True)
    (root / "clips").mkdir(exist_ok=True)
    text = (["Category&VideoID&Quality&StartTime&EndTime"] if header else []) + list(lines)
    (root / "Annotations.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    splits = splits or {"trainSet": lines[:2], "valSet": lines[2:3], "testSet": lines[3:]}
    for name, of_split in splits.items():
        (root / f"{name}.txt").write_text("\n".join(of_split) + "\n", encoding="utf-8")
    for clip in clips if clips is not None else {line.split("&")[1] for line in lines if line.count("&") == 4}:
        (root / "clips" / f"{clip}.mp4").write_bytes(clip.encode())
    return DatasetSettings(kind="ave", clips=root / "clips", annotations=root, **TEN_SECONDS)


@pytest.mark.parametrize("header", [True, False])
def test_rows_are_the_same_with_and_without_a_header_line(tmp_path, header):
    index = build_index(write_ave(tmp_path / "ave", header=header))
    assert [row.clip[0] for row in index.rows] == ["a", "b", "c", "d"]
    assert [row.split for row in index.rows] == ["train", "train", "val", "test"]
    assert index.classes == ["Dog", "Cat"]
    (event,) = index.rows[1].events
    assert (event.modality, event.label, event.onset, event.offset) == ("av", "Cat", 2.0, 7.0)
    assert index.health == []


def test_classes_are_in_the_order_of_the_categories_file(tmp_path):
    settings = write_ave(tmp_path / "ave")
    (tmp_path / "ave" / "categories.txt").write_text("Cat\nBird\nDog\n", encoding="utf-8")
    assert build_index(settings).classes == ["Cat", "Bird", "Dog"]


@pytest.mark.fault(13, 15)
def test_all_malformed_lines_are_reported_at_once_with_file_and_line(tmp_path):
    bad = ["Dog&eee&good&7&5", "Dog&../etc&good&0&5", "Dog&fff&good&0", "Dog&ggg&good&zero&5", "Dog&hhh&good&0&11", "&iii&good&0&5"]
    settings = write_ave(tmp_path / "ave", lines=[*LINES, *bad], splits={"trainSet": LINES, "valSet": [], "testSet": []}, clips=[])
    with pytest.raises(InputProblems) as caught:
        build_index(settings)
    assert len(caught.value.problems) == 6
    expected = ["7-5 s", "path separator", "4 columns", "number", "0-11 s", "empty"]
    for number, words in enumerate(expected, 6):
        assert any(f"Annotations.txt:{number}:" in problem and words in problem for problem in caught.value.problems)


@pytest.mark.fault(13, 14)
def test_a_line_in_two_splits_or_in_no_annotation_and_an_unknown_class_are_problems(tmp_path):
    settings = write_ave(tmp_path / "ave", splits={"trainSet": LINES, "valSet": LINES[:1], "testSet": ["Dog&zzz&good&0&10"]})
    (tmp_path / "ave" / "categories.txt").write_text("Dog\n", encoding="utf-8")
    with pytest.raises(InputProblems) as caught:
        build_index(settings)
    for parts in (("Dog&aaaaaaaaaaa", "train"), ("Dog&zzz", "Annotations.txt"), ("'Cat'", "Annotations.txt")):
        assert one_says(caught.value.problems, *parts), (parts, caught.value.problems)


@pytest.mark.fault(13)
def test_missing_annotation_files_are_named(tmp_path):
    settings = write_ave(tmp_path / "ave")
    (tmp_path / "ave" / "valSet.txt").unlink()
    with pytest.raises(InputProblems, match=r"valSet\.txt: "):
        build_index(settings)
    with pytest.raises(InputProblems, match=r"dataset\.clips"):
        build_index(DatasetSettings(kind="ave", clips=tmp_path / "nowhere", annotations=tmp_path, **TEN_SECONDS))


@pytest.mark.fault(13, 14)
def test_defects_that_do_not_stop_are_in_the_health_report(tmp_path):
    lines = [*LINES, "Cat&aaaaaaaaaaa&good&0&10", "Dog&eeeeeeeeeee&good&0&0", "Dog&fffffffffff&good&0&10"]
    splits = {"trainSet": [*LINES[:2], lines[5]], "valSet": LINES[2:3], "testSet": [LINES[3], lines[4]]}
    settings = write_ave(tmp_path / "ave", lines=lines, splits=splits, clips=[letter * 11 for letter in "abcde"])
    index = build_index(settings)
    assert index.rows[5].events == ()
    assert index.rows[5].clip_labels == ("Dog",)  # its weak label stands, as in the published mil_labels.h5
    expected = [
        ("no split", ": 1 (fffffffffff row 6, line 8)"),  # the header is line 1
        ("without an event", ": 1 (eeeeeeeeeee row 5, line 7)"),
        ("several rows", ": 1 (aaaaaaaaaaa rows 0 4)"),
        ("test rows", "in train", ": 1 (aaaaaaaaaaa row 4, line 6)"),
        ("without a file", ": 1 (fffffffffff)"),
    ]
    assert each_says(index.health, expected)


@pytest.mark.fault(15)
def test_a_link_that_leads_out_of_the_clips_is_not_followed(tmp_path):
    settings = write_ave(tmp_path / "ave")
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    clip = tmp_path / "ave" / "clips" / "aaaaaaaaaaa.mp4"
    clip.unlink()
    clip.symlink_to(secret)
    assert build_index(settings).rows[0].file is None


def test_the_index_reads_back_as_written(tmp_path):
    index = build_index(write_ave(tmp_path / "ave", clips=["aaaaaaaaaaa"]))
    (tmp_path / "out").mkdir()
    write_index(index, tmp_path / "out")
    rows, classes = read_index(tmp_path / "out")
    assert classes == ["Dog", "Cat"]
    assert list(rows["row"]) == [0, 1, 2, 3]
    assert rows["bytes"][0] == 11
    assert len(rows["sha256"][0]) == 64
    assert rows["sha256"].isna().tolist() == [False, True, True, True]
    assert [list(labels) for labels in rows["labels"]] == [["Dog"], ["Cat"], ["Dog"], ["Cat"]]
    assert rows["seconds"].isna().all()
    assert dict(rows["events"][1][0]) == {"modality": "av", "label": "Cat", "onset": 2.0, "offset": 7.0}


@given(st.text(max_size=60))
def test_any_line_is_parsed_or_refused(text):
    try:
        line = parse_line(text, 10.0)
    except ValueError:
        return
    assert 0 <= line.start <= line.end <= 10
    assert "/" not in line.clip


def test_realmix_is_read_whole(shared):
    root = shared / "realmix"
    index = build_index(DatasetSettings(kind="ave", clips=root / "clips", annotations=root, **TEN_SECONDS))
    assert len(index.rows) == 300
    assert [sum(row.split == split for row in index.rows) for split in ("train", "val", "test")] == [200, 40, 60]
    assert all(row.file for row in index.rows)
    assert index.classes[:3] == ["Dog", "Rooster", "Cat"]
