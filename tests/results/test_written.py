"""docs/results/ is true: in this project as it is now, and whatever is done to one that a test has made."""

from __future__ import annotations

import pytest

from pipeline.errors import InputProblems
from pipeline.git import commit_of
from pipeline.results.lock import CODE, LOCK, PARAMS, read_lock
from pipeline.results.written import FIGURES, check, mark, take
from tests.results.conftest import SUITE
from tests.wording import says


def test_the_pages_of_this_project_are_true(repository):
    """When code or a suite has changed, `python -m pipeline results --mark` says so on its page, and this passes."""
    assert check(repository).problems == []


def test_every_figure_of_docs_is_drawn_by_the_command(repository):
    drawn = {f"{suite}-{name}.png" for suite, names in FIGURES.items() for name in names}
    assert {path.name for path in (repository / "docs").rglob("*.png")} == drawn


def test_a_page_of_today_says_nothing_of_its_age(both, page):
    project, clone = both
    assert take(SUITE, clone, project) == page
    assert check(project).problems == []
    assert check(project).ages == [f"{SUITE}: of today (commit {commit_of(clone)[:12]})"]
    assert "Not of today" not in page.read_text(encoding="utf-8")
    assert "results/small.md" in (project / "docs/results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "was", "becomes", "why"),
    [
        ("pipeline/metrics/bootstrap.py", "10_000", "20_000", CODE),
        (f"suites/{SUITE}.yaml", "epochs: 3", "epochs: 4", PARAMS),
    ],
)
def test_a_page_of_other_code_or_settings_says_so_itself(both, page, file, was, becomes, why):
    project, clone = both
    take(SUITE, clone, project)
    fresh, before = page.read_text(encoding="utf-8"), (project / file).read_text(encoding="utf-8")
    assert was in before
    (project / file).write_text(before.replace(was, becomes), encoding="utf-8")
    assert [says(problem, "small.md", "age", "--mark") for problem in check(project).problems] == [True]
    mark(project)
    assert check(project).problems == []
    assert says(check(project).ages[0], why)
    assert why in page.read_text(encoding="utf-8")
    (project / file).write_text(before, encoding="utf-8")
    assert len(check(project).problems) == 1
    mark(project)
    assert page.read_text(encoding="utf-8") == fresh


def test_a_page_from_an_older_clone_says_so_at_once(both, page):
    project, clone = both
    with open(project / "stages" / "train.py", "a", encoding="utf-8") as stream:
        stream.write("NEW = 1\n")
    take(SUITE, clone, project)
    assert CODE in page.read_text(encoding="utf-8")
    assert check(project).problems == []


def test_what_hands_have_changed_is_named(both, page):
    project, clone = both
    take(SUITE, clone, project)
    for path, was, becomes, words in (
        (page, "**80.00**", "**90.00**", ("small.md", "by hand")),
        (project / "docs/results.md", "Small world", "Great world", ("docs/results.md (pages)", "--mark")),
        (project / "docs/results.md", "# Results", "# 12.34 ± 5.67", ("docs/results.md", "12.34 ± 5.67")),
        (project / "README.md", "# Readme", "# By +3.71 [+0.58, +7.17]", ("README.md", "+3.71 [+0.58, +7.17]")),
        (project / "README.md", "# Readme", "# It takes 2.71 s", ("README.md", "2.71 stands neither")),
        (
            project / "docs/speed.md",
            "# Speed",
            "# 80.00 is on a page only, 1.5 measured",
            ("docs/speed.md", "80.00 does not stand in benchmarks/RESULTS.md"),
        ),
    ):
        text = path.read_text(encoding="utf-8")
        assert was in text
        path.write_text(text.replace(was, becomes), encoding="utf-8")
        assert any(says(problem, *words) for problem in check(project).problems), words
        path.write_text(text, encoding="utf-8")
    with open(project / "README.md", "a", encoding="utf-8") as stream:
        stream.write("80.00 ± 7.07 on a page, 1.50 ± 0.25 in a benchmark, 1.5 of it, 80.0; `2.71` and version 2.7.1 are no results.\n")
    assert check(project).problems == []


def test_a_page_and_the_lock_belong_together(both, page):
    project, clone = both
    take(SUITE, clone, project)
    assert set(read_lock(project)) == {SUITE}
    page.with_name("stray.md").write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    mark(project)
    assert [says(problem, "no entry", "stray.md") for problem in check(project).problems] == [True]
    page.with_name("stray.md").unlink()
    page.unlink()
    mark(project)
    assert [says(problem, "small.md", "missing") for problem in check(project).problems] == [True]


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\na: {}\n=======\nb:\n  page: 'x'\n>>>>>>> run\n", "small: {page: x}\n", "- small\n"])
def test_a_lock_that_a_merge_or_a_hand_has_spoilt_is_told_in_one_sentence(both, text):
    project, _ = both
    (project / LOCK).parent.mkdir(parents=True, exist_ok=True)
    (project / LOCK).write_text(text, encoding="utf-8")
    with pytest.raises(InputProblems) as error:
        check(project)
    assert says(str(error.value), "results.lock", "cannot be read", "both sides")
