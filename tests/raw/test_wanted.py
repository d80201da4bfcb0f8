import pytest

from pipeline.errors import InputProblems, PipelineError
from pipeline.raw.wanted import Wanted, read_wanted


def test_the_ids_of_llp_hold_its_spans(tmp_path):
    file = tmp_path / "AVVP_dataset_full.csv"
    file.write_text(
        "filename\tevent_labels\n-jCEuf_lX-4_20_30\tSpeech,Dog\nAP0061o0Nvk_101.8_111.8\tDog\n-jCEuf_lX-4_20_30\tSpeech\n", encoding="utf-8"
    )
    expected = [
        Wanted("-jCEuf_lX-4_20_30", "-jCEuf_lX-4", 20.0, 30.0),
        Wanted("AP0061o0Nvk_101.8_111.8", "AP0061o0Nvk", 101.8, 111.8),
    ]
    assert read_wanted("llp", file) == expected
    assert read_wanted("llp", tmp_path) == expected


def test_a_csv_gives_spans_or_whole_videos(tmp_path):
    file = tmp_path / "ids.csv"
    file.write_text("id,start,end,label\n-abcdefghij,1.5,4,x\n-abcdefghij,10,20,x\nabcdefghijk,,,x\n", encoding="utf-8")
    assert read_wanted("csv", file) == [
        Wanted("-abcdefghij_1.5_4", "-abcdefghij", 1.5, 4.0),
        Wanted("-abcdefghij_10_20", "-abcdefghij", 10.0, 20.0),
        Wanted("abcdefghijk", "abcdefghijk"),
    ]


def test_every_bad_line_of_a_csv_is_reported(tmp_path):
    file = tmp_path / "ids.csv"
    bad = [
        "../../etc/xx,0,10",
        "-x; rm -rf /,0,10",
        "short,0,10",
        "abcdefghijk,10,0",
        "abcdefghijk,a,10",
        "abcdefghijk,nan,10",
        "abcdefghijk,3,",
        ",,",
    ]
    file.write_text("\n".join(["id,start,end", *bad]) + "\n", encoding="utf-8")
    with pytest.raises(InputProblems) as caught:
        read_wanted("csv", file)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [f"{file}:{number}" for number in range(2, 10)]
    file.write_text("video,start\n", encoding="utf-8")
    with pytest.raises(InputProblems, match="id, end"):
        read_wanted("csv", file)


@pytest.mark.fault(15)
def test_bad_ids_of_every_kind_are_reported_at_once(tmp_path):
    (tmp_path / "llp.csv").write_text("filename\n../x_0_10\nBjCEufrlXm4_30_20\nBjCEufrlXm4\n", encoding="utf-8")
    (tmp_path / "ave.txt").write_text("Dog&-rCEufrlXm4&good&0&10\nDog&../../etc&good&0&5\nDog&short&good&0&5\n", encoding="utf-8")
    (tmp_path / "unav.json").write_text('{"database": {"a/b": {}, "-Rjmgv0O_p0": {}, "x": {}}}', encoding="utf-8")
    for kind, name, count, more in (("llp", "llp.csv", 3, {}), ("ave", "ave.txt", 2, {"whole": True}), ("unav100", "unav.json", 2, {})):
        with pytest.raises(InputProblems) as caught:
            read_wanted(kind, tmp_path / name, **more)
        assert len(caught.value.problems) == count
        with pytest.raises(InputProblems, match="nowhere"):
            read_wanted(kind, tmp_path / "nowhere", **more)
    for content in ("{", "[]", "{}"):
        (tmp_path / "unav.json").write_text(content, encoding="utf-8")
        with pytest.raises(InputProblems, match="UnAV-100"):
            read_wanted("unav100", tmp_path / "unav.json")


AUDIOSET = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=2
# YTID, start_seconds, end_seconds, positive_labels
-rCEufrlXm4, 30.000, 40.000, "/m/09x0r,/t/dd00088"
zzzzzzzzzzz, 0.000, 10.000, "/m/09x0r"
"""


def test_ave_needs_audiosets_lists_or_whole_videos(tmp_path):
    annotations = tmp_path / "Annotations.txt"
    annotations.write_text(
        "Category&VideoID&Quality&StartTime&EndTime\nDog&-rCEufrlXm4&good&0&10\nCat&-rCEufrlXm4&good&2&5\nCat&7nSYwyaP4QE&good&0&9\n",
        encoding="utf-8",
    )
    (tmp_path / "eval_segments.csv").write_text(AUDIOSET, encoding="utf-8")
    found = read_wanted("ave", tmp_path, [tmp_path / "eval_segments.csv"])
    assert found == [
        Wanted("-rCEufrlXm4", "-rCEufrlXm4", 30.0, 40.0),
        Wanted("7nSYwyaP4QE", "7nSYwyaP4QE", problem=found[1].problem),
    ]
    assert "eval_segments.csv" in found[1].problem
    assert read_wanted("ave", annotations, whole=True) == [Wanted("-rCEufrlXm4", "-rCEufrlXm4"), Wanted("7nSYwyaP4QE", "7nSYwyaP4QE")]
    with pytest.raises(PipelineError, match="ten seconds"):
        read_wanted("ave", annotations)
    with pytest.raises(InputProblems, match=r"nowhere\.csv"):
        read_wanted("ave", annotations, [annotations, tmp_path / "nowhere.csv"])
    with pytest.raises(PipelineError, match="kind ave"):
        read_wanted("llp", annotations, whole=True)
    with pytest.raises(PipelineError, match="vggsound"):
        read_wanted("vggsound", annotations)


def test_the_published_annotations_are_read_whole(shared):
    root = shared / "annotations"
    counts = {kind: len(read_wanted(kind, root / kind, whole=kind == "ave")) for kind in ("ave", "llp", "unav100")}
    assert counts == {"ave": 4097, "llp": 11849, "unav100": 10790}
    assert sum(each.start % 1 > 0 for each in read_wanted("llp", root / "llp")) == 5
