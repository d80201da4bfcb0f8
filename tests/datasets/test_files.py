import os

import pytest

from pipeline.datasets.files import match_files
from pipeline.datasets.folder import find_films


@pytest.fixture
def put(tmp_path):
    root = tmp_path / "clips"
    root.mkdir()

    def write(*names, content=None):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((content or name).encode())
        return root

    return write


AVE, DASHED = "a_bC-9_12xy", "---1_cCGK4M"


@pytest.mark.parametrize(
    "name",
    [
        *("{}.mp4", "{}.webm", "{}.MKV", "{}_30.mp4", "{}_30_40.mp4", "{}_000030.mp4", "{}_30.000_40.000.mp4", "{}_30000_40000.mkv"),
        *("train/{}.mp4", "val/Church bell/{}_0_10.mp4", "A title with [brackets] [{}].webm"),
    ],
)
@pytest.mark.parametrize("clip", [AVE, DASHED])
@pytest.mark.fault(11)
def test_the_common_layouts_of_a_dump_are_found(put, clip, name):
    root = put(name.format(clip), "other000000.mp4", "notes.txt", f"x{clip}.mp4", f"{clip}.txt")
    assert match_files(root, [clip]).files == {clip: (root / name.format(clip)).as_posix()}


@pytest.mark.parametrize(
    "name", ["{}_.mp4", "{}_a.mp4", "{}_40_30.mp4", "{}_30_40_50.mp4", ".{}.mp4", ".x/{}.mp4", "{}.mp4.part", "{} (1).mp4"]
)
def test_other_names_are_not_taken_for_the_id(put, name):
    assert match_files(put(name.format(AVE)), [AVE]).files == {AVE: None}


@pytest.mark.parametrize(
    ("clip", "name"),
    [
        ("BjCEufrlXm4_20_30", "BjCEufrlXm4_20_30.mp4"),
        ("BjCEufrlXm4_20_30", "BjCEufrlXm4_20000_30000.mp4"),
        ("BjCEufrlXm4_20_30", "BjCEufrlXm4_000020_000030.mp4"),
        ("AP0061o0Nvk_101.8_111.8", "AP0061o0Nvk_101.800_111.800.mp4"),
        ("AP0061o0Nvk_101.8_111.8", "AP0061o0Nvk_101800_111800.mp4"),
    ],
)
def test_a_span_is_read_in_every_spelling(put, clip, name):
    root = put(name)
    assert match_files(root, [clip, "zzzzzzzzzzz_0_10"]).files == {clip: (root / name).as_posix(), "zzzzzzzzzzz_0_10": None}
    assert match_files(root, [clip]).by_video == []


def test_another_span_of_the_same_video_is_not_the_clip(put):
    root = put("BjCEufrlXm4_0_10.mp4")
    assert match_files(root, ["BjCEufrlXm4_20_30"]).files == {"BjCEufrlXm4_20_30": None}


def test_a_file_named_without_a_span_is_taken_and_reported_if_its_video_has_one_id(put):
    root = put("BjCEufrlXm4.mp4", "7nSYwyaP4QE.mp4")
    ids = ["BjCEufrlXm4_20_30", "7nSYwyaP4QE_50_60", "7nSYwyaP4QE_0_10"]
    found = match_files(root, ids)
    assert found.files == {ids[0]: (root / "BjCEufrlXm4.mp4").as_posix(), ids[1]: None, ids[2]: None}
    assert found.by_video == ids[:1]
    with_span = put("BjCEufrlXm4_20_30.mp4")
    assert match_files(with_span, ids).files[ids[0]].endswith("_20_30.mp4")


def test_a_name_that_is_an_id_is_no_variant_of_another(put):
    root = put("abc_30.mp4", "abc.mp4")
    found = match_files(root, ["abc", "abc_30"])
    assert found.files == {"abc": (root / "abc.mp4").as_posix(), "abc_30": (root / "abc_30.mp4").as_posix()}


def test_two_different_files_of_one_id_are_reported_and_none_is_guessed(put):
    root = put(f"{AVE}.mp4", f"{AVE}_30_40.mp4")
    found = match_files(root, [AVE])
    assert found.files == {AVE: None}
    assert found.ambiguous == {AVE: [(root / f"{AVE}.mp4").as_posix(), (root / f"{AVE}_30_40.mp4").as_posix()]}
    assert [f"{AVE}: {root / f'{AVE}.mp4'}, {root / f'{AVE}_30_40.mp4'}"] in dict(found.findings()).values()


def test_the_same_clip_in_two_folders_is_one_file(put):
    root = put(f"train/{AVE}.mp4", f"test/{AVE}.mp4", content="the same bytes")
    found = match_files(root, [AVE])
    assert found.files == {AVE: (root / f"test/{AVE}.mp4").as_posix()}
    assert found.ambiguous == {}


@pytest.mark.fault(15)
def test_links_that_lead_out_are_refused_and_reported_and_cycles_end(put, tmp_path):
    root = put("deep/inside0000a.mp4")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "secret00000.mp4").write_bytes(b"secret")
    (root / "secret00000.mp4").symlink_to(tmp_path / "secret" / "secret00000.mp4")
    (root / "linked").symlink_to(tmp_path / "secret")
    (root / "deep" / "loop").symlink_to(root)
    os.symlink(root / "deep" / "inside0000a.mp4", root / "inside0000b.mp4")
    found = match_files(root, ["secret00000", "inside0000a", "inside0000b"])
    assert found.outside == [(root / "linked").as_posix(), (root / "secret00000.mp4").as_posix()]
    assert found.files["secret00000"] is None
    assert found.files["inside0000b"] == (root / "inside0000b.mp4").as_posix()
    assert found.files["inside0000a"] == (root / "deep" / "inside0000a.mp4").as_posix()


def test_a_numbered_thumbnail_beside_films_hides_none_of_them(put):
    root = put("set/inside0000a.mp4", "set/1.jpg", "set/more/inside0000b.mp4", "inside0000c/0001.jpg")
    found = match_files(root, ["inside0000a", "inside0000b", "inside0000c"])
    names = "set/inside0000a.mp4", "set/more/inside0000b.mp4", "inside0000c"
    assert list(found.files.values()) == [(root / name).as_posix() for name in names]
    assert {*find_films(root)[0]} == {*names}
