"""The size of a YAML file with its aliases expanded is checked before it is built."""

from __future__ import annotations

import contextlib

import pytest

from pipeline import config, yaml_files
from pipeline.errors import InputProblems
from pipeline.yaml_files import LARGEST_FILE, MOST_VALUES, read_yaml


def bomb(levels: int, times: int = 10) -> str:
    lines = ["a0: &a0 [" + ", ".join(["x"] * times) + "]"]
    lines += [f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * times) + "]" for level in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(9), "line 5: .*100000 values"),
        ("a: &a [*a]\n", r"line 1: .*\*a "),
        ("a: &a {b: {c: *a}}\n", r"line 1: .*\*a "),
        ("[" * 100_000, "line 1: .* 50 levels"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, " 50 levels"),
        ("a: 1 " + " " * LARGEST_FILE, str(LARGEST_FILE)),
        ("a: " + "9" * 5000, "limit"),
        ("a: 2020-13-41\n", "month"),
        ("a: 1\na: 2\n", "duplicate key"),
        ("a: *b\n", "undefined alias"),
        ("a: !!python/object:os.system x\n", "python/object:os.system"),
    ],
    ids=["bomb", "itself", "within itself", "open lists", "mappings", "file", "digits", "date", "twice", "no anchor", "python"],
)
@pytest.mark.fault(18)
def test_what_is_too_much_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


@pytest.mark.fault(18)
def test_a_list_has_a_largest_length(tmp_path, monkeypatch):
    path = tmp_path / "params.yaml"
    assert MOST_VALUES == 100_000
    monkeypatch.setattr(yaml_files, "MOST_VALUES", 100)
    for count, words in ((97, ""), (101, "100 values")):
        path.write_text(f"a: [{', '.join(['1'] * count)}]", encoding="utf-8")
        with pytest.raises(ValueError, match=words) if words else contextlib.nullcontext():
            assert read_yaml(path) == {"a": [1] * count}


def test_params_are_read_so_too(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(bomb(9), encoding="utf-8")
    with pytest.raises(InputProblems, match="100000 values"):
        config.load(path)


def test_aliases_of_a_sane_size_are_read(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: &a {b: 1, c: [1, 2]}\nd: *a\ne:\n  <<: *a\n  f: 2\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"b": 1, "c": [1, 2]}, "d": {"b": 1, "c": [1, 2]}, "e": {"b": 1, "c": [1, 2], "f": 2}}


def test_an_anchor_given_again_counts_as_what_it_then_names(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(bomb(4) + "a3: &a3 x\nz: [" + ", ".join(["*a3"] * 50) + "]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="duplicate key"):
        read_yaml(path)
    path.write_text(bomb(3).replace("a2: &a2", "b: &a0") + "z: [*a0, *a0]\n", encoding="utf-8")
    assert len(read_yaml(path)["z"]) == 2
