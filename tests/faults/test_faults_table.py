"""docs/faults.md says which test holds which of the 42 faults, and every one has a test that runs on any machine."""

from __future__ import annotations

import ast

import pytest

from tests.faults.table import FAULTS, LINE, PAGE, functions, held, may_skip, never_runs, numbers, rendered, skipping_fixtures


@pytest.fixture(scope="module")
def marked():
    return held()


def test_the_page_says_what_the_marks_say():
    text = PAGE.read_text(encoding="utf-8")
    assert [int(line[1]) for line in LINE.finditer(text)] == list(FAULTS)
    assert rendered(text) == text, "run: python -m tests.faults.table"


@pytest.mark.parametrize("number", FAULTS)
def test_every_fault_has_tests_and_one_that_nothing_skips(marked, number):
    assert any(test.always for test in marked.get(number, [])), f"no test holds fault {number} on every machine"


def test_no_mark_is_of_another_number_and_no_marked_test_never_runs(marked):
    assert set(marked) <= set(FAULTS)
    assert not [test for tests in marked.values() for test in tests if test.never]


def test_the_reader_of_marks_sees_what_it_should():
    source = """
@pytest.fixture
def clips(shared): return shared
@pytest.fixture
def shared(): pytest.skip("not here")
@pytest.mark.fault(3, 7)
@pytest.mark.skip
def test_a(): assert True
@pytest.mark.fault(40)
def test_b(clips): pytest.importorskip("decord")
def test_c():
    "words"
    pytest.skip("later")
@pytest.mark.skipif(True, reason="x")
def test_d(): pass
@pytest.mark.skipif(not here, reason="x")
def test_e(): pass
"""
    tree = ast.parse(source)
    by_name = {function.name: function for function in functions(tree)}
    assert {name: list(numbers(function)) for name, function in by_name.items() if list(numbers(function))} == {
        "test_a": [3, 7],
        "test_b": [40],
    }
    tests = {name[-1]: function for name, function in by_name.items() if name.startswith("test_")}
    assert [name for name, function in tests.items() if never_runs(function)] == ["a", "c", "d"]
    assert [name for name, function in tests.items() if may_skip(function)] == ["a", "b", "c", "d", "e"]
    assert skipping_fixtures(functions(tree)) == {"clips", "shared"}
