"""When an event covers a segment: both rules against their definitions, from the settings to the truth that a row is trained on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets import DatasetSettings, build_index, read_index, write_index
from pipeline.datasets.base import Event
from pipeline.datasets.segments import occupied, rule_of
from pipeline.features.store import Entry, FeatureStore, write_store
from pipeline.tasks import TASKS, avel, avvp, cml
from pipeline.training.data import load_split
from tests.wording import one_says

T = 6
SPANS = [(0.4, 1.6), (2.8, 3.1), (4.0, 5.0)]  # of one class; by half 0.4-1.6 has segments 0 and 1, 2.8-3.1 none
EXPECTED = {"half": [1, 1, 0, 0, 1, 0], "touch": [1, 1, 1, 1, 1, 0]}


def index_of(directory: Path, rule: str | None = None):
    """A data set of one video of six seconds with the events above, read, written and read back."""
    directory.mkdir(exist_ok=True)
    events = [{"segment": list(span), "label": "singing", "label_id": 0} for span in SPANS]
    database = {split: {"duration": 6, "subset": split, "annotations": events} for split in ("train", "validation", "test")}
    (directory / "unav100_annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    given = {} if rule is None else {"segment_rule": rule}
    settings = DatasetSettings(kind="unav100", clips=directory, annotations=directory, segments=T, segment_seconds=1.0, **given)
    index = build_index(settings)
    (directory / "index").mkdir()
    write_index(index, directory / "index")
    return (*read_index(directory / "index"), index.health)


@pytest.mark.parametrize("rule", ["half", "touch"])
def test_the_rule_goes_from_the_settings_through_the_index_into_every_tasks_truth(tmp_path, rule):
    index, classes, _ = index_of(tmp_path / "data", rule)
    assert rule_of(index) == rule
    entries = []
    for clip in index["clip"]:
        facts = {"clip": clip, "status": "ok", "valid": [True] * T, "visual_valid": [True] * T, "audio_valid": [True] * T}
        features = {"visual": np.zeros((T, 4), np.float32), "audio": np.zeros((T, 4), np.float32)}
        entries.append(Entry(facts | {"visual_key": clip, "audio_key": clip}, features))
    spec = {"segments": T, "segment_seconds": 1.0, "dtype": "float32", "shapes": {"visual": [4], "audio": [4]}}
    (tmp_path / "features").mkdir()
    write_store(tmp_path / "features", entries, len(entries), spec)
    store = FeatureStore(tmp_path / "features")
    of = {name: load_split(store, index, classes, "test", TASKS.get(name)).targets for name in ("avel", "avvp", "cml")}
    assert (of["avel"].segments[0] == 0).int().tolist() == EXPECTED[rule]
    assert of["avvp"].audio[0, :, 0].int().tolist() == of["avvp"].visual[0, :, 0].int().tolist() == EXPECTED[rule]
    assert of["cml"].event[0].int().tolist() == EXPECTED[rule]
    shares = load_split(store, index, classes, "train", TASKS.get("avel"), labels="proportions").targets.labels[0]
    assert shares[0].item() == pytest.approx(sum(EXPECTED[rule]) / T)


def test_half_is_the_default_also_for_an_index_without_the_column(tmp_path):
    index, _, health = index_of(tmp_path / "a")
    assert rule_of(index) == rule_of(index.drop(columns="segment_rule")) == rule_of(pd.DataFrame({"segment_rule": []})) == "half"
    lost = ", ".join(f"{clip} singing 2.8-3.1" for clip in ("train", "validation", "test"))
    assert one_says(health, "dataset.segment_rule: half", f": 3 ({lost})")
    assert not any("dataset.segment_rule" in line for line in index_of(tmp_path / "b", "touch")[2])


def test_another_rule_is_another_index(tmp_path):
    """Everything trained depends on the index."""
    index_of(tmp_path / "a", "half"), index_of(tmp_path / "b", "touch")
    half, touch = (pd.read_parquet(tmp_path / name / "index" / "index.parquet") for name in "ab")
    assert not half.equals(touch)
    assert half.drop(columns="segment_rule").equals(touch.drop(columns="segment_rule"))


@given(
    start=st.integers(0, 60), length=st.integers(0, 40), seconds=st.sampled_from([1.0, 0.5, 0.96, 2.0]), scale=st.sampled_from([10, 8, 1])
)  # fmt: skip
def test_both_rules_are_their_definitions(start, length, seconds, scale):
    """The units keep every number exact."""
    onset, offset = start * seconds / scale, (start + length) * seconds / scale
    half, touch = (occupied([Event("av", "x", onset, offset)], ["x"], "av", 12, seconds, rule)[0].tolist() for rule in ("half", "touch"))
    covered = [max(0, min((t + 1) * scale, start + length) - max(t * scale, start)) for t in range(12)]  # in seconds / scale
    assert half == [2 * part >= scale and part > 0 for part in covered]
    first, last = start // scale, -(-(start + length) // scale)
    assert touch == [first <= t < last and length > 0 for t in range(12)]
    if start % scale == length % scale == 0:  # whole segments, as AVE and LLP have them
        assert half == touch


def test_the_event_that_covers_more_has_the_segment_under_either_rule():
    events = [[(0, 0.0, 2.7), (1, 2.6, 3.0)]]
    assert avel.targets_of_events(events, 4, 2, rule="half").segments.tolist() == [[0, 0, 0, 2]]
    assert avel.targets_of_events(events, 4, 2, rule="touch").segments.tolist() == [[0, 0, 0, 2]]
    assert avel.targets_of_events([[(1, 2.9, 3.1), (0, 2.0, 2.2)]], 4, 2, rule="touch").segments.tolist() == [[2, 2, 0, 1]]
    assert cml.row_targets([[asdict(Event("av", "x", 0.9, 1.1))]], ["x"], 3, 1.0, rule="touch").event.tolist() == [[True, True, False]]


def runs(active: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@pytest.mark.parametrize(("rule", "segment", "event"), [("half", 72.95, 53.56), ("touch", 75.82, 54.92)])
def test_the_oracle_of_unav100_under_either_rule(shared, tmp_path, rule, segment, event):
    """The true labels of a test clip on in all its segments: F by class and clip, counted here, by segments and by events (IoU >= 0.5)."""
    settings = DatasetSettings(
        kind="unav100", clips=tmp_path, annotations=shared / "annotations" / "unav100", segments=60, segment_seconds=1.0, segment_rule=rule
    )
    index = build_index(settings)
    rows = [row for row in index.rows if row.split == "test"]
    truth = avvp.row_targets([[asdict(each) for each in row.events] for row in rows], index.classes, 60, 1.0, rule=rule)
    assert torch.equal(truth.audio, truth.visual)
    by_segment, by_event = [], []
    for number, row in enumerate(rows):
        length, labels = min(60, math.ceil(row.seconds)), truth.labels[number].numpy().nonzero()[0]
        true = truth.audio[number, :length].numpy()[:, labels]
        by_segment.append(np.mean(2 * true.sum(axis=0) / (true.sum(axis=0) + length)))
        spans = [runs(column) for column in true.T]
        hits = [any(end - start >= length / 2 for start, end in of_class) for of_class in spans]
        by_event.append(np.mean([2 * hit / (1 + len(of_class)) for hit, of_class in zip(hits, spans, strict=True)]))
    assert (100 * np.mean(by_segment), 100 * np.mean(by_event)) == pytest.approx((segment, event), abs=0.005)
    covered = [occupied([each], [each.label], "av", 60, 1.0, rule).any() for row in rows for each in row.events]
    assert (len(covered), covered.count(False)) == (5900, 67 if rule == "half" else 0)
