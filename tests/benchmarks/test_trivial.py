"""Trivial answers on the published annotations, as benchmarks/RESULTS.md prints them."""

import pytest
import torch

from benchmarks.trivial import localization, matching, on_segments
from pipeline.datasets.base import Event, Index, Row


@pytest.mark.parametrize("lines", [localization, matching])
def test_the_tables_of_ave_are_printed_as_they_are(repository, shared, lines):
    printed = (repository / "benchmarks/RESULTS.md").read_text(encoding="utf-8")
    for words, values in lines(shared / "annotations" / "ave"):
        assert f"\n| {words} | {' | '.join(f'{value:.1f}' for value in values)} |\n" in printed


def test_the_truth_on_segments_is_rounded_to_them_and_ends_with_the_clip():
    """The bell fills less than half of the first and third second; the dog half of the third and, to the clip's end, of the fourth."""
    events = (Event("av", "bell", 0.6, 2.4), Event("av", "dog", 2.4, 3.6), Event("audio", "bell", 3.0, 3.6))
    index = Index([Row("a", "train", None, events), Row("b", "test", None, events)], ["bell", "dog"])
    (found,) = on_segments(index, torch.tensor([3.6]), 1.0)
    assert found.labels.tolist() == [0, 1]
    assert found.spans.tolist() == [[1.0, 2.0], [2.0, pytest.approx(3.6)]]
