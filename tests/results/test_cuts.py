"""What other pages cut from the pages of the suites."""

from __future__ import annotations

from pipeline.labels.quality import SHOWN
from pipeline.report.formats import markdown
from pipeline.report.tables import Table
from pipeline.results.cuts import demo_table, index, labels, matrix, measured, results_of, short
from pipeline.results.pages import folded, quality_lines

HEAD = "| Run | Method | Test, mean ± std (seeds) | Difference to a \\| b [95 %] |\n|---|---|---|---|\n"
DEMO = f"""# Demo world

<!-- state -->
<!-- /state -->

| | |
|---|---|
| Commit | `abc` |
| Wall time | 5.0 s |

<!-- results -->
{HEAD}| avel_audio | avel | **50.00** ± 1.50 (3) | -3.00 [-4.00, -2.00] |
| avel | avel | **82.00** ± 1.00 (3) | – |
| coleaf_han (dense labels) [1, 2] | coleaf | **70.25** (1) | – |
| psp | psp | not run | – |

[1] A note | with a bar.

Trivial answers.
<!-- /results -->
"""
REALMIX = DEMO.replace("82.00", "91.00").replace("# Demo world", "# Realmix").replace("| avel_audio |", "| only_here |")
RATES = [{"precision": first, "recall": first + 1, "f1": first + 2} for first in (1.0, 4.0, 7.0)]
QUALITY = {
    split: {
        "labels": {**dict.fromkeys(SHOWN, 0.0), "audio": RATES[audio], "visual": RATES[1]},
        "clip_label": {**dict.fromkeys(SHOWN, 0.0), "audio": RATES[2], "visual": RATES[1]},
    }
    for split, audio in (("val", 1), ("test", 0))
}
OLD = DEMO.replace("<!-- state -->\n", "<!-- state -->\n> **Not of today:** so it is.\n")


def test_a_page_s_runs_are_read_with_their_marks_and_scores():
    lines = [(line.run, line.marks, line.method, line.score) for line in results_of(DEMO)]
    assert lines == [
        ("avel_audio", "", "avel", "50.00 ± 1.50"),
        ("avel", "", "avel", "82.00 ± 1.00"),
        ("coleaf_han", "(dense labels)", "coleaf", "70.25"),
        ("psp", "", "psp", ""),
    ]


def test_the_readme_has_the_results_of_the_demo_and_says_when_they_are_old():
    text = demo_table({"demo": DEMO}, "")
    assert text.startswith("| Run |")
    assert text.endswith("\nTrivial answers.\n")
    assert demo_table({"demo": OLD}, "") == f"{text}> **Not of today:** so it is.\n"
    assert "results demo" in demo_table({}, "")


def test_a_method_is_measured_by_its_namesake_else_by_its_first_run():
    assert measured("avel", [DEMO]) == "82.00 ± 1.00"
    assert measured("coleaf", [DEMO]) == "70.25 (`coleaf_han`)"
    assert measured("psp", [DEMO, REALMIX]) == "–"
    assert measured("avel", [REALMIX, DEMO]) == "91.00 ± 1.00"


def test_the_matrix_keeps_what_hands_wrote():
    heads = "| method | paper | demo world | realmix | more |\n|---|---|---|---|---|\n"
    before = f"{heads}| `avel` | AVEL | 1.0 | 2.0 | x |\n| `psp` | PSP | 3 | – | y |\n"
    assert matrix({"demo": DEMO, "realmix": REALMIX}, before).splitlines()[2:] == [
        "| `avel` | AVEL | 82.00 ± 1.00 | 91.00 ± 1.00 | x |",
        "| `psp` | PSP | – | – | y |",
    ]


def test_runs_of_two_worlds_stand_side_by_side():
    lines = short({"demo-methods": DEMO, "realmix": REALMIX}, "").splitlines()
    assert lines[0] == "| Run | Method | [Demo world](results/demo-methods.md) | [realmix](results/realmix.md) |"
    assert lines[2:] == [
        "| avel_audio | avel | 50.00 ± 1.50 | – |",
        "| avel | avel | 82.00 ± 1.00 | 91.00 ± 1.00 |",
        "| coleaf_han (dense labels) | coleaf | 70.25 | 70.25 |",
        "| psp | psp | – | – |",
        "| only_here | avel | – | 50.00 ± 1.50 |",
    ]


def test_the_index_has_a_line_for_every_suite():
    lines = index({"demo": OLD, "mine": DEMO}, "").splitlines()
    assert lines[2] == "| `demo` | [Demo world](results/demo.md) | 4 | `abc` | 5.0 s | older |"
    assert lines[-1] == "| `mine` | [Demo world](results/mine.md) | 4 | `abc` | 5.0 s | today's |"
    assert "| `realmix` | not made yet | | | | |" in lines


def test_the_quality_of_labels_is_that_of_the_test_clips_sounds():
    scores = list(quality_lines("a", QUALITY)) + list(quality_lines("b", QUALITY))
    rates = [f"{kind} {rate}" for kind in ("Audio", "Visual") for rate in ("precision", "recall", "F1")]
    heads = ["Label set", "Split", "Labels", *SHOWN, *rates]
    section = markdown(Table(heads, scores, ["A note."]))
    page = f"# P\n\n## Labels of segments\n\n{section}\n{folded('Class by class', Table(['Class'], [['x']]))}"
    assert labels({"realmix-parsing": page}, "").splitlines()[2:] == [
        "| `a` | 1.0 | 2.0 | 3.0 |",
        "| `b` | 1.0 | 2.0 | 3.0 |",
        "| the clip's labels in all segments | 7.0 | 8.0 | 9.0 |",
    ]
