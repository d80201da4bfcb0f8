"""The page of a finished clone: its facts, and all tables of the report but the training times."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.datasets.folds import Folds, Place, read_folds, write_folds
from pipeline.git import commit_of
from pipeline.results import pages
from pipeline.results.pages import clips_of, page, quality_lines, recall_lines
from tests.results.conftest import SUITE


@pytest.fixture(scope="module")
def text(made):
    return page(SUITE, made / "clones" / SUITE)


def cells_of(text, start):
    """The cells of the first line that starts so, by the heads of its table."""
    lines = text.splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith(f"| {start} |"))
    head = max(place for place in range(number) if lines[place].startswith("|---")) - 1
    heads, cells = ([cell.strip() for cell in lines[place].split("|")[1:-1]] for place in (head, number))
    return dict(zip(heads, cells, strict=True))


def test_the_results_are_those_of_the_runs_without_training_times(text):
    whole = cells_of(text, "whole")
    assert whole["Test, mean ± std (seeds)"] == "**80.00** ± 7.07 (2)"  # 75 and 85 %
    assert whole["Test clips"] == "8"
    assert cells_of(text, "cace")["Difference to whole [95 %]"].startswith("+10.00 [")
    assert "12.0 s" not in text
    assert not [head for head in whole if "Training" in head]
    assert "Trivial answers on the same clips: " in text


def test_a_comparison_has_its_interval_and_the_number_of_clips(text):
    lines = text[text.index("## Paired differences") :]
    compared = cells_of(lines, "cace")
    assert compared["Against"] == "part"
    assert compared["Difference [95 %]"].startswith("+25.00 [+")
    assert compared["Test clips"] == "8"
    assert compared["By seed"] == "+20.00, +30.00"


def test_the_facts_say_how_it_was_made(text, made, monkeypatch):
    facts = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| ")}
    assert facts["Made again by"] == f"`python -m pipeline results {SUITE}`"
    assert facts["Commit"] == f"`{commit_of(made / 'project')[:12]}`"
    assert facts["Clips"] == "8 test; 3 classes"
    assert facts["Machine"] == "Abacus, 1 thread"
    assert facts["Wall time"] == "–"
    assert "A small world." in text
    monkeypatch.setattr(pages, "read_time", lambda _: {"seconds": 200.0, "calls": 2})
    again = page(SUITE, made / "clones" / SUITE)
    (line,) = set(again.splitlines()) - set(text.splitlines())  # a second run on the same machine differs by nothing else
    assert line == "| Wall time | 3 min 20 s, 2 calls together; seeds trained at once: 3 |"


def test_folds_are_counted_by_the_clips_that_take_part(tmp_path):
    index = pd.DataFrame({"clip": ["a", "b", "c", "d"], "split": ["train", "test", "none", "test"]})
    write_folds(Folds(2, {"a": Place("a", 0), "b": Place("b", 1), "d": Place("d", 1)}, {}), tmp_path)
    assert clips_of(index, read_folds(tmp_path)) == "3, each tested once in 2 folds"
    assert clips_of(index, None) == "1 train, 2 test"


def test_the_quality_of_labels_stands_beside_the_trivial_answer():
    scores = {"segment/A": 1.04, "segment/V": 2, "segment/AV": 3, "segment/Type@AV": 4, "segment/Event@AV": 5, "event/Type@AV": 6}
    rates = {"audio": {"precision": None, "recall": 7.0, "f1": 8.0}, "visual": {"precision": 9.0, "recall": 10.0, "f1": 11.0}}
    trivial = {**dict.fromkeys(scores, 50.0), **rates}
    lines = list(quality_lines("set", {"val": {"labels": scores | rates, "clip_label": trivial}}))
    assert lines[0][:3] == ["set", "validation", "as made"]
    assert lines[0][3:] == ["1.0", "2.0", "3.0", "4.0", "5.0", "6.0", "–", "7.0", "8.0", "9.0", "10.0", "11.0"]
    assert lines[1][2:4] == ["the clip's labels in all segments", "50.0"]


def test_recall_is_the_mean_of_both_directions():
    def found(recall, rank, loss):
        return {f"{way}/recall@{k}": recall + k + (way == "a2v") for way in ("a2v", "v2a") for k in (1, 5, 10)} | {
            "a2v/median_rank": rank, "v2a/median_rank": rank + 1, "loss": loss,
        }  # fmt: skip

    document = {"clips": {"val": 80}, "val": {"before": found(10, 3, 3.456), "after": found(20, 1, 2)}}
    assert list(recall_lines("eye", document)) == [
        ["eye", "80", "frozen", "11.5", "15.5", "20.5", "3.50", "3.46"],
        ["eye", "80", "fine-tuned", "21.5", "25.5", "30.5", "1.50", "2.00"],
    ]
