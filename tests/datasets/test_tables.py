"""Lines of a CSV file that do not fit its header are refused with file and line, wherever such a file is read."""

from __future__ import annotations

import pytest

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.tables import read_records
from pipeline.errors import InputProblems
from pipeline.raw.wanted import read_wanted
from tests.wording import each_says

LABELS, WANTED = "clip,split,label,onset,offset\n", "id,start,end\n"


def labels_problems(tmp_path, text: str) -> list[str]:
    (tmp_path / "clips").mkdir(exist_ok=True)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "clips" / name).touch()
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputProblems) as caught:
        build_index(DatasetSettings(kind="folder", clips=tmp_path / "clips", annotations=path, segments=10, segment_seconds=1.0))
    assert caught.value.where == str(path)
    return caught.value.problems


def wanted_problems(tmp_path, text: str) -> list[str]:
    path = tmp_path / "ids.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputProblems) as caught:
        read_wanted("csv", path)
    assert all(problem.startswith(f"{path}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_decimal_commas_are_not_taken_for_another_span(tmp_path):
    found = labels_problems(tmp_path, LABELS + "a.mp4,train,dog,0,5,3,5\nb.mp4,train,dog,0,5\nb.mp4,train,dog,0\n")
    assert each_says(found, [("line 2: 7 columns", "5"), ("line 4: 4 columns", "5")])
    assert "0.5" in found[0]
    found = wanted_problems(tmp_path, WANTED + "-abcdefghij,0,5,3,5\n-abcdefghij,1.5,4\nabcdefghijk\n")
    assert each_says(found, [("2: 5 columns", "3"), ("4: 1 columns", "3")])


def test_a_column_named_twice_is_refused(tmp_path):
    found = labels_problems(tmp_path, LABELS.replace("\n", ",onset\n") + "a.mp4,train,dog,0,5,3\n")
    assert each_says(found, [("line 1: ", "twice", "1 (onset)")])
    assert each_says(wanted_problems(tmp_path, "id,start,end,end,id\n-abcdefghij,0,5,3,x\n"), [("1: ", "twice", "2 (end, id)")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'-abcdefghij,0,5\n"abcdefghijk,1,2\n', "CSV"),
        (b'-abcdefghij,"0"0,5\n', "CSV"),
    ],
)
def test_a_line_that_is_not_csv_is_reported(tmp_path, content, words):
    (problem,) = wanted_problems(tmp_path, WANTED.encode() + content)
    assert words in problem
    assert problem.split(":")[0].isdigit()


def test_good_lines_are_records_whatever_else_the_header_names(tmp_path):
    """With a byte order mark, blank lines, quotes and a further column."""
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffid,more,start,end\n\nx,"a, b",1,2\n\ny,,"3",4\n'.encode())
    problems: list[tuple[int, str]] = []
    assert list(read_records(path, ("id", "start", "end"), problems)) == [
        (3, {"id": "x", "more": "a, b", "start": "1", "end": "2"}),
        (5, {"id": "y", "more": "", "start": "3", "end": "4"}),
    ]
    assert not problems


def test_lines_of_audiosets_lists_are_checked_where_they_are_used(tmp_path):
    (tmp_path / "Annotations.txt").write_text("Dog&-rCEufrlXm4&good&0&10\nDog&7nSYwyaP4QE&good&0&10\n", encoding="utf-8")
    path = tmp_path / "segments.csv"
    path.write_text(
        "# num_ytids=3\n"
        '-rCEufrlXm4, 30,000, 40,000, "/m/09x0r"\n'
        '7nSYwyaP4QE, 30.000, 40.000, "/m/09x0r"\n'
        '7nSYwyaP4QE, 30.000, 40.000, "/m/09x0r"\n'
        '7nSYwyaP4QE, 50.000, 60.000, "/m/09x0r"\n'
        '7nSYwyaP4QE, nan, 60.000, "/m/09x0r"\n'
        "zzzzzzzzzzz, of nobody\n",
        encoding="utf-8",
    )
    with pytest.raises(InputProblems) as caught:
        read_wanted("ave", tmp_path, [path])
    expected = [
        (f"{path}:2: 6 columns", "4 (YTID, start_seconds, end_seconds, labels)"),
        (f"{path}:5: ", "7nSYwyaP4QE", "span"),
        (f"{path}:6: ", "nan-60 s"),
    ]
    assert each_says(caught.value.problems, expected)
