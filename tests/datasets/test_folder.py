import pytest

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.labels import seconds_of
from pipeline.errors import InputProblems, PipelineError
from tests.wording import each_says, one_says, says

HEADER = "clip,split,label,onset,offset\n"


@pytest.fixture
def clips(tmp_path):
    root = tmp_path / "clips"
    (root / "deep").mkdir(parents=True)
    for name in ("a.mp4", "deep/a.mp4", "with space ü.mp4", "-dash.mp4", "new\nline.mp4", "notes.txt", ".hidden.mp4"):
        (root / name).write_bytes(name.encode())
    return root


def settings(clips, annotations=None):
    return DatasetSettings(kind="folder", clips=clips, annotations=annotations or clips, segments=10, segment_seconds=1.0)


@pytest.mark.fault(11)
def test_every_file_is_a_clip_and_equal_names_stay_apart(clips):
    index = build_index(settings(clips))
    assert {row.clip for row in index.rows} == {"a.mp4", "deep/a.mp4", "with space ü.mp4", "-dash.mp4", "new\nline.mp4"}
    assert {row.split for row in index.rows} == {"none"}
    assert index.classes == []
    assert each_says(index.health, [("left out", "1 (.hidden.mp4)"), ("left out", "1 (notes.txt)")])


def test_labels_come_from_a_csv(clips, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(HEADER + "a.mp4,train,Dog,0,4.5\na.mp4,train,Cat,5,10\ndeep/a.mp4,test,Cat,1,2\n", encoding="utf-8")
    index = build_index(settings(clips, labels))
    rows = {row.clip: row for row in index.rows}
    assert index.classes == ["Cat", "Dog"]
    assert [(event.label, event.onset, event.offset) for event in rows["a.mp4"].events] == [("Dog", 0, 4.5), ("Cat", 5, 10)]
    assert (rows["a.mp4"].split, rows["deep/a.mp4"].split, rows["-dash.mp4"].split) == ("train", "test", "none")


def test_a_negative_clip_of_weak_supervision_has_no_event(clips, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(HEADER + "a.mp4,train,Dog,0,4.5\ndeep/a.mp4,negative,,,\n", encoding="utf-8")
    index = build_index(settings(clips, labels))
    assert {row.clip: (row.split, len(row.events)) for row in index.rows if row.split != "none"} == {
        "a.mp4": ("train", 1),
        "deep/a.mp4": ("negative", 0),
    }
    assert index.classes == ["Dog"]
    labels.write_text(HEADER + "a.mp4,negative,Dog,,\ndeep/a.mp4,negative,,0,1\n", encoding="utf-8")
    with pytest.raises(InputProblems) as caught:
        build_index(settings(clips, labels))
    assert each_says(caught.value.problems, [(f"line {line}: ", "negative", "event") for line in (2, 3)])


@pytest.mark.fault(13, 14)
def test_all_problems_of_the_labels_are_reported_at_once(clips, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        HEADER + "b.mp4,train,Dog,0,1\na.mp4,learn,Dog,0,1\na.mp4,train,,0,1\na.mp4,train,Dog,5,4\n"
        "a.mp4,train,Dog,x,4\na.mp4,train,Dog,0,1\na.mp4,test,Dog,0,1\n",
        encoding="utf-8",
    )
    with pytest.raises(InputProblems) as caught:
        build_index(settings(clips, labels))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["line 2", "line 3", "line 4", "line 5", "line 6", "line 8"]


def test_missing_columns_and_a_missing_file_are_named(clips, tmp_path):
    labels = tmp_path / "labels.csv"
    with pytest.raises(InputProblems, match=r"labels\.csv"):
        build_index(settings(clips, labels))
    labels.write_text("clip,label\n", encoding="utf-8")
    with pytest.raises(InputProblems, match="split, onset, offset"):
        build_index(settings(clips, labels))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_mark_than_the_comma_is_named(clips, tmp_path, mark):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "\n".join([mark.join(["clip", "split", "label", "onset", "offset"]), mark.join(["a", "train", "dog", "0,5", "5"])]),
        encoding="utf-8",
    )
    with pytest.raises(InputProblems) as caught:
        build_index(settings(clips, labels))
    (problem,) = caught.value.problems
    assert says(problem, repr(mark), "comma")


def test_an_unknown_kind_is_answered_with_the_known_ones(clips):
    with pytest.raises(PipelineError, match=r"'folders'.*'folder'"):
        build_index(settings(clips).model_copy(update={"kind": "folders"}))


def test_a_clip_is_named_by_path_or_name_with_or_without_its_ending(clips, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "clip,split,label,start,end\na,train,Dog,0,1\ndeep/a,val,Cat,1,2\n-dash.mp4,test,Dog,2,3\nwith space ü,train,,,\n", encoding="utf-8"
    )
    rows = {row.clip: row for row in build_index(settings(clips, labels)).rows if row.split != "none"}
    assert {clip: (row.split, [event.label for event in row.events]) for clip, row in rows.items()} == {
        "a.mp4": ("train", ["Dog"]), "deep/a.mp4": ("val", ["Cat"]), "-dash.mp4": ("test", ["Dog"]), "with space ü.mp4": ("train", []),
    }  # fmt: skip


@pytest.mark.fault(13)
def test_the_nearest_name_is_given_for_a_clip_and_a_column(clips, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(HEADER + "with_space,train,Dog,0,1\n", encoding="utf-8")
    with pytest.raises(InputProblems, match=r"line 2: .*did you mean 'with space ü"):
        build_index(settings(clips, labels))
    labels.write_text("clip,split,lable,onset,offset,modalty\n", encoding="utf-8")
    with pytest.raises(InputProblems) as caught:
        build_index(settings(clips, labels))
    assert each_says(caught.value.problems, [("label", "mean", "'lable'"), ("'modalty'", "mean modality")])


def test_what_the_splits_lack_is_said_before_training(clips, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(HEADER + "a,train,Dog,0,1\na,train,Cow,2,3\ndeep/a.mp4,test,Cat,1,2\n-dash,test,Dog,0,1\n", encoding="utf-8")
    health = build_index(settings(clips, labels)).health
    assert one_says(health, "no clip", "split val")
    assert one_says(health, "without a training clip", ": 1 (Cat)")
    assert one_says(health, "without a test clip", ": 1 (Cow)")


@pytest.mark.parametrize(("time", "seconds"), [("5", 5), (" 1:05.5 ", 65.5), ("2:00:01", 7201), ("0:59", 59), (3.5, 3.5)])
def test_times_are_seconds_or_clock_times(time, seconds):
    assert seconds_of(time) == seconds


@pytest.mark.parametrize("time", ["1:60", "1:-5", "a:05", "1:2:3:4", "", ":5", "0,5", "1:nan"])
def test_what_is_no_time_is_refused(time):
    with pytest.raises(ValueError, match=r"time|float"):
        seconds_of(time)
