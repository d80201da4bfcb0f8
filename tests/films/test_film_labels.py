"""The same labels, written by four programs, are the same events; what is wrong is said at once, with file and place."""

import contextlib
import json
import random

import pytest

from pipeline.datasets.base import Event
from pipeline.datasets.labels import ClipNames
from pipeline.errors import InputProblems
from pipeline.films.labels import read_film_labels
from tests.wording import each_says, one_says, says

NAMES = ClipNames(["street.mp4", "deep/zoo 1.mkv", "deep/quiet.mp4"])
LENGTHS = {"street.mp4": 30.0, "deep/zoo 1.mkv": 12.5, "deep/quiet.mp4": None}
EVENTS = {
    "street.mp4": [Event("av", "Car", 0.5, 4.25), Event("av", "Dog", 20.0, 31.0)],
    "deep/zoo 1.mkv": [Event("av", "Lion", 3.0, 12.0)],
}


def elan(film, spans, tier="sounds", origin=0, value=True):
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{n}" TIME_VALUE="{round(t * 1000)}"/>' for n, t in enumerate(t for s in spans for t in s[1:])
    )
    marks = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{n}" TIME_SLOT_REF1="ts{2 * n}" TIME_SLOT_REF2="ts{2 * n + 1}">'
        f"<ANNOTATION_VALUE>{span[0] if value else ''}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for n, span in enumerate(spans)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ANNOTATION_DOCUMENT AUTHOR="" FORMAT="3.0" VERSION="3.0"><HEADER TIME_UNITS="milliseconds">'
        f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/films/x.wav" MIME_TYPE="audio/x-wav"/><MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/films/{film}"'
        f' MIME_TYPE="video/mp4" TIME_ORIGIN="{origin}"/></HEADER><TIME_ORDER>{slots}</TIME_ORDER><TIER TIER_ID="{tier}">{marks}</TIER>'
        '<TIER TIER_ID="notes"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r1" ANNOTATION_REF="a0"><ANNOTATION_VALUE>loud'
        "</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
    )


def via_project():
    options = {"options": {"0": "Car", "1": "Dog", "2": "Lion"}}
    return json.dumps({
        "project": {"pid": "p", "vid_list": ["1", "2"]},
        "attribute": {"1": {"aname": "Comment", "type": 1, "options": {}}, "2": {"aname": "Sound", "type": 4, **options}},
        "file": {"1": {"fid": "1", "fname": "street.mp4", "src": ""}, "2": {"fid": "2", "fname": "", "src": "http://host/films/zoo 1.mkv"}},
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
        "metadata": {
            "1_a": {"vid": "1", "z": [0.5, 4.25], "xy": [], "av": {"1": "fast", "2": "0"}},
            "1_b": {"vid": "1", "z": [20, 31], "xy": [], "av": {"1": "_DEFAULT", "2": "1"}},
            "1_c": {"vid": "1", "z": [5.5], "xy": [2, 1, 1, 9, 9], "av": {"1": "box"}},
            "2_a": {"vid": "2", "z": [3, 12], "xy": [], "av": {"2": "2"}},
        },
    })  # fmt: skip


VIA_EXPORT = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# ATTRIBUTE = {"1":{"aname":"Sound","type":4,"options":{"0":"Car","1":"Dog"}}}
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_a","[""street.mp4""]",0,"[0.5,4.25]","[]","{""1"":""0""}"
"1_b","[""street.mp4""]",0,"[20,31]","[]","{""1"":""1""}"
"2_a","[""zoo 1.mkv""]",0,"[3,12]","[]","{""1"":""Lion""}"
"""
VIA_FIRST_EXPORT = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# CSV_HEADER = metadata_id,file_list,temporal_segment_start,temporal_segment_end,metadata
"1_a","[""street.mp4""]",0.5,4.25,"{""TEMPORAL-SEGMENTS"":""Car""}"
"1_b","[""street.mp4""]",20,31,"{""TEMPORAL-SEGMENTS"":""Dog""}"
"2_a","[""zoo 1.mkv""]",3,12,"{""TEMPORAL-SEGMENTS"":""Lion""}"
"""
PROGRAMS = {
    "table": {"labels.csv": "clip,start,end,label\nstreet,20,31,Dog\nstreet.mp4,0.5,4.25,Car\nzoo 1,0:03,00:00:12.0,Lion\n"},
    "elan": {
        "one.eaf": elan("street.mp4", [("Car", 0.5, 4.25), ("Dog", 20, 31)]),
        "zoo 1.eaf": elan("renamed%20film.mp4", [("", 1, 10)], "Lion", origin=2000, value=False),
    },
    "via": {"project.json": via_project()},
    "export": {"via.csv": VIA_EXPORT},
    "first_export": {"via.csv": VIA_FIRST_EXPORT},
    "audacity": {
        "street.txt": "0.5\t4.25\tCar\n\\\t100.0\t200.0\n20.0\t31.0\tDog\n7\t7\tmark\n",
        "zoo 1.txt": "3\t12\tLion\n",
        "readme.txt": "x",
    },
}


def write(directory, files):
    for name, content in files.items():
        (directory / name).write_text(content, encoding="utf-8")
    return directory


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_same_labels_are_the_same_events(tmp_path, program):
    found = read_film_labels(write(tmp_path, PROGRAMS[program]), NAMES, LENGTHS)
    assert found.events == EVENTS
    assert found.classes == ["Car", "Dog", "Lion"]
    assert found.splits == {}
    left_out = {"elan": [("1 annotations",), ("1 annotations",)], "via": [("1 marks",)], "audacity": [("1 labels", "point")]}
    assert each_says(found.notes, left_out.get(program, []))


def test_one_tier_or_attribute_can_be_read_alone(tmp_path):
    found = read_film_labels(write(tmp_path, PROGRAMS["via"]) / "project.json", NAMES, LENGTHS, "Comment")
    assert found.events == {"street.mp4": [Event("av", "fast", 0.5, 4.25)], "deep/zoo 1.mkv": []}
    with pytest.raises(InputProblems, match="did you mean 'Sound'"):
        read_film_labels(tmp_path / "project.json", NAMES, LENGTHS, "sounds")
    two = write(tmp_path, {"a.eaf": elan("quiet.mp4", [("Car", 1, 2)])}) / "a.eaf"
    assert read_film_labels(two, NAMES, LENGTHS, "sounds").events == {"deep/quiet.mp4": [Event("av", "Car", 1.0, 2.0)]}
    assert read_film_labels(two, NAMES, LENGTHS, "notes").events == {"deep/quiet.mp4": []}


@pytest.mark.fault(13)
def test_every_problem_of_every_file_is_said_at_once_with_its_place(tmp_path):
    write(tmp_path, {
        "labels.csv": "clip,start,end,label\nstret,1,2,Dog\nstreet,5,4,Dog\nstreet,1,2,\nstreet,31,40,Dog\n",
        "late.csv": "clip,start,end,label,split\nzoo 1,13,14,Lion,train\nstreet,1500,4000,Dog,train\n",
        "street.txt": "1\t2\n3\tx\tDog\n",
        "torn.eaf": elan("street.mp4", [])[:-20],
        "lost.eaf": elan("nowhere.mp4", []),
        "frames.eaf": elan("street.mp4", []).replace("milliseconds", "PAL-frames"),
        "word.eaf": elan("street.mp4", [("Car", 1, 2)]).replace('"1000"', '"one"'),
        "picture.json": '{"_via_settings": {}}',
        "via.csv": VIA_EXPORT + '"3","[""street.mp4""]",0,"[1,2","[]","{}"\n',
    })  # fmt: skip
    with pytest.raises(InputProblems) as caught:
        read_film_labels(tmp_path, NAMES, LENGTHS)
    expected = [
        ("labels.csv: line 2", "'stret'", "mean 'street'"), ("labels.csv: line 3", "5-4 s"), ("labels.csv: line 4", "label is empty"),
        ("labels.csv:5", "31 s", "ends at 30.0 s"),
        ("late.csv:2", "13 s", "ends at 12.5 s"), ("late.csv:3", "1500 s", "ends at 30.0 s", "seconds?"),
        ("street.txt:1", "2 fields"), ("street.txt:2", "'x'", "1:05.5"), ("torn.eaf", "not a whole ELAN file"),
        ("lost.eaf", "'nowhere.mp4'"), ("frames.eaf", "PAL-frames"), ("word.eaf", "'sounds'", "annotation a0", "'one'"),
        ("picture.json", "version 3"), ("via.csv:7", "not a line of VIA's export"),
    ]  # fmt: skip
    assert len(caught.value.problems) == len(expected)
    for parts in expected:
        assert one_says(caught.value.problems, *parts), parts


def test_among_the_films_only_what_is_labels_for_certain_is_read(tmp_path):
    for folder in ("deep", "other", ".old"):
        (tmp_path / folder).mkdir()
    stray = {
        "readme.txt": "x", "meta.csv": "clip,start,end,label\nstreet,1,2,Stray\n", "zoo 1.txt": "1\t2\tStray\n", "other/street.txt": "x",
        "street.info.json": '{"id": 1}', "list.json": "[]", "torn.json": "{", "deep.json": "[" * 100_000, "._a.eaf": "x",
        ".old/labels.csv": "x", "latin.json": "",
    }  # fmt: skip
    write(tmp_path, stray)
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    assert read_film_labels(tmp_path, NAMES, LENGTHS, beside=True).events == {}
    write(tmp_path, {"deep/zoo 1.txt": "3\t12\tLion\n"})
    assert read_film_labels(tmp_path, NAMES, LENGTHS, beside=True).events == {"deep/zoo 1.mkv": EVENTS["deep/zoo 1.mkv"]}
    write(tmp_path, {"project.json": via_project(), "labels.csv": "clip,start,end,label\nquiet,1,2,Owl\n", **PROGRAMS["elan"]})
    expected = EVENTS | {"deep/quiet.mp4": [Event("av", "Owl", 1.0, 2.0)]}
    assert read_film_labels(tmp_path, NAMES, LENGTHS, beside=True).events == expected


def test_a_file_that_is_not_there_is_a_problem_with_what_labels_are(tmp_path):
    with pytest.raises(InputProblems) as caught:
        read_film_labels(tmp_path / "none.csv", NAMES, LENGTHS)
    assert says(str(caught.value), "no such file", ".eaf", ".json", ".txt")


def test_a_table_may_give_splits_and_films_without_an_event(tmp_path):
    table = "clip,split,label,start,end\nstreet,train,Dog,1,2\nzoo 1,val,,,\n"
    found = read_film_labels(write(tmp_path, {"labels.csv": table}), NAMES, LENGTHS)
    assert found.events == {"street.mp4": [Event("av", "Dog", 1.0, 2.0)], "deep/zoo 1.mkv": []}
    assert found.splits == {"street.mp4": "train", "deep/zoo 1.mkv": "val"}
    with pytest.raises(InputProblems) as caught:
        read_film_labels(write(tmp_path, {"labels.csv": table + "street,test,Dog,3,4\n"}), NAMES, LENGTHS)
    assert each_says(caught.value.problems, [("line 4", "train", "test")])


def test_two_files_that_put_a_film_in_two_splits_are_both_named(tmp_path):
    table = "clip,split,label,start,end\nstreet,{},Dog,1,2\n"
    write(tmp_path, {"a.csv": table.format("train"), "b.csv": table.format("test"), "c.csv": table.format("train")})
    with pytest.raises(InputProblems) as caught:
        read_film_labels(tmp_path, NAMES, LENGTHS)
    assert each_says(caught.value.problems, [("b.csv:2", "street.mp4", "test", "train", "a.csv:2")])


def test_labels_of_one_modality_alone_and_labels_that_end_after_their_film_are_problems(tmp_path):
    lines = ["street,1,2,Dog,audio", "street,3,4,Dog,av", "street,5,6,Cat,visual", "street,20,31,Dog,av", "street,20,31.1,Cat,av"]
    write(tmp_path, {"labels.csv": "\n".join(["clip,start,end,label,modality", *lines])})
    with pytest.raises(InputProblems) as caught:
        read_film_labels(tmp_path, NAMES, LENGTHS)
    expected = [("labels.csv:6", "31.1 s", "30.0 s"), ("background", "2 (", "labels.csv:2 (audio)", "labels.csv:4 (visual)")]
    assert each_says(caught.value.problems, expected)


@pytest.mark.parametrize("form", ["project", "export"])
def test_each_ticked_option_of_a_checkbox_is_an_event_and_an_unknown_option_a_problem(tmp_path, form):
    box = {"aname": "Sound", "type": 2, "options": {"0": "Car", "1": "Dog", "2": "Lion"}}

    def labels(value, described=box):
        if form == "project":
            content = json.loads(via_project())
            content["attribute"]["2"] = described
            content["metadata"] = {"1_a": {"vid": "1", "z": [1, 2], "xy": [], "av": {"1": "note, with a comma", "2": value}}}
            write(tmp_path, {"via.json": json.dumps(content)})
            return read_film_labels(tmp_path / "via.json", NAMES, LENGTHS).events["street.mp4"]
        text = VIA_EXPORT.splitlines()[2] + '\n"1","[""street.mp4""]",0,"[1,2]","[]","{""2"":""' + value + '""}"\n'
        write(tmp_path, {"via.csv": "# ATTRIBUTE = " + json.dumps({"2": described}) + "\n" + text})
        return read_film_labels(tmp_path / "via.csv", NAMES, LENGTHS).events["street.mp4"]

    assert labels("0,2") == [Event("av", "Car", 1.0, 2.0), Event("av", "Lion", 1.0, 2.0)]
    assert labels("1") == [Event("av", "Dog", 1.0, 2.0)]
    for value, described in (("0,7", box), ("7", box), ("7", box | {"type": 4})):
        with pytest.raises(InputProblems) as caught:
            labels(value, described)
        assert each_says(caught.value.problems, [("via.", "'Sound'", "'7'")])


@pytest.mark.fault(13)
def test_a_damaged_label_file_is_a_problem_and_no_error_of_ours(tmp_path):
    draw = random.Random(0)
    files = [pair for files in PROGRAMS.values() for pair in files.items()]
    for _ in range(400):
        name, text = draw.choice(files)
        content = bytearray(text.encode())
        for place in (draw.randrange(len(content) + 1) for _ in range(draw.randint(1, 3))):
            content[place : place + draw.randint(0, 6)] = draw.choice([b"", b"[", b'"', b"null", b"{}", b"1e999", b"\xe9", b"&x;"])
        (tmp_path / name).write_bytes(content)
        with contextlib.suppress(InputProblems):
            read_film_labels(tmp_path / name, NAMES, LENGTHS)
