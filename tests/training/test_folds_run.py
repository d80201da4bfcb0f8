"""A run by folds: once per fold and seed, every clip tested once, resumed to the byte, reported with intervals over clips and sources."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from kills import kill_at
from test_runs import EVERY_STEP, SELDOM, SPLITS, make_inputs, train

from pipeline.datasets.folds import Folds, Place
from pipeline.metrics.bootstrap import paired_bootstrap
from pipeline.report.comparisons import comparison_table
from pipeline.report.folded import fold_table
from pipeline.report.footnotes import Footnotes, remarks
from pipeline.report.results import read_run
from pipeline.report.settings import ReportSettings
from pipeline.report.tables import as_read, results_table
from pipeline.tasks import avel
from pipeline.training import loop
from pipeline.training.evaluate import evaluate_run
from pipeline.training.members import Member
from pipeline.training.predictions import predictions
from pipeline.training.progress import Bar
from pipeline.training.train import train_alone
from pipeline.training.trained import load_seed
from tests.wording import says

CLIPS = [f"clip{number}" for number in range(len(SPLITS))]
FOLDS = Folds(3, {clip: Place(CLIPS[n - n % 2], n // 2 % 3) for n, clip in enumerate(CLIPS)}, {"by": "by.csv", "groups": 11, "health": []})


def by_folds(root, epochs=2, seeds=(3, 4)):
    return replace(make_inputs(root, epochs=epochs, seeds=seeds), folds=FOLDS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(inputs, directory of the weights, their bytes by name, directory of the results)."""
    root = tmp_path_factory.mktemp("folds")
    inputs = by_folds(root)
    files, results = train(inputs, root / "run", SELDOM), root / "results"
    results.mkdir()
    evaluate_run(inputs, root / "run", EVERY_STEP, results)
    return inputs, root / "run", files, results


def test_there_is_one_network_of_each_fold_and_seed(world):
    files = world[2]
    assert {name for name in files if name.endswith(".json")} == {f"seed-{seed}-fold-{fold}.json" for seed in (3, 4) for fold in range(3)}
    assert len({files[name] for name in files if name.endswith(".safetensors")}) == 6
    assert files["curves.csv"].startswith(b"seed,fold,epoch,")


def test_a_fold_is_trained_as_a_data_set_with_these_splits(world, tmp_path):
    inputs, _, files, _ = world
    alone = replace(inputs, run=inputs.run.model_copy(update={"seeds": [4]}), index=FOLDS.index_of(inputs.index, 1), folds=None)
    assert train(alone, tmp_path / "alone", SELDOM)["seed-4.safetensors"] == files["seed-4-fold-1.safetensors"]


def test_every_clip_is_tested_once_by_the_network_of_its_fold(world):
    inputs, models, _, results = world
    table = pd.read_parquet(results / "predictions.parquet")
    for split, ahead in (("test", 0), ("val", 1)):
        lines = table[(table["split"] == split) & (table["seed"] == 3)]
        assert list(lines["row"]) == sorted([*range(len(SPLITS) - 1)] * 4)  # 4 segments; the last clip has no features
        for fold in range(3):
            method, facts = load_seed(models, 3, fold)
            assert facts["fold"] == fold
            data = inputs.of_fold(fold).split(split)
            assert {FOLDS.clips[clip].fold for clip in data.clips} == {(fold + ahead) % 3}
            expected = predictions(method, avel, data, torch.float32, 64)[0].segments
            found = np.stack(list(lines[lines["row"].isin(data.rows)]["scores"]))
            torch.testing.assert_close(torch.from_numpy(found), expected.flatten(0, 1))


def test_killed_in_a_fold_and_resumed_or_in_a_process_of_its_own_it_gives_the_same_bytes(world, tmp_path, monkeypatch):
    files = world[2]
    step = loop.Trainer._step
    inputs = by_folds(tmp_path)
    kill_at(monkeypatch, 20)  # of 6 networks with 2 epochs of 2 steps: in the fifth
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "run")
    assert len(list((tmp_path / "run").glob("*.safetensors"))) == 4
    monkeypatch.setattr(loop.Trainer, "_step", step)
    monkeypatch.setattr("pipeline.training.train.keep_freed_memory", lambda: None)  # this process does more than train
    train_alone(inputs, EVERY_STEP, tmp_path / "run", tmp_path / "live", None, 2, Member(4, 2), Bar)  # as a process beside others does
    assert train(inputs, tmp_path / "run", SELDOM) == files


def test_other_folds_are_another_work_and_none_the_work_that_it_was(world, tmp_path):
    inputs = world[0]
    moved = replace(FOLDS, clips={**FOLDS.clips, "clip0": Place("clip0", 1), "clip1": Place("clip0", 1)})
    prints = {each.fingerprint(EVERY_STEP) for each in (inputs, replace(inputs, folds=moved), replace(inputs, folds=None))}
    assert len(prints) == 3
    assert replace(inputs, folds=FOLDS).fingerprint(EVERY_STEP) in prints


def test_the_report_has_the_score_of_all_clips_with_intervals_over_clips_and_over_sources(world, tmp_path):
    inputs, _, _, results = world
    result = read_run("run", inputs.run, results, results / "no live")
    table = pd.read_parquet(results / "predictions.parquet")
    test = table[table["split"] == "test"]
    right = (test["true"] == test["predicted"]).astype(float) * 100
    assert result.scores == pytest.approx(right.groupby(test["seed"]).mean().tolist())
    assert result.groups.to_dict() == {row: row // 2 for row in range(len(SPLITS) - 1)}
    clips = right.groupby(test["row"]).mean()
    over_clips, over_groups = (paired_bootstrap(clips, clips * 0, groups=groups) for groups in (None, clips.index // 2))
    shown = fold_table([result]).lines[0]
    assert shown[4:6] == [f"[{each.low:.2f}, {each.high:.2f}]" for each in (over_clips, over_groups)]
    by_fold = right.groupby(test["row"] // 2 % 3).mean()
    assert shown[6] == ", ".join(f"{value:.1f}" for value in by_fold)
    assert any(says(text, "3 folds", "tested once", "by.csv", "10 groups") for text in remarks(result, ReportSettings(title="T"), {}))
    assert not fold_table([replace(result, folds={}, groups=None)]).heads


def test_differences_are_paired_by_clip_and_drawn_by_source_too(world, tmp_path):
    inputs, _, _, results = world
    ours, theirs = (read_run(name, inputs.run, results, results / "no live") for name in ("ours", "theirs"))
    settings = ReportSettings(title="T", baseline="theirs", comparisons={"ours": ["theirs"]})
    compared = comparison_table([ours, theirs], settings)
    assert compared.heads == ["Run", "Against", "Difference [95 %]", "[95 %] over sources", "Test clips", "By seed"]
    assert compared.lines[0][2:] == ["+0.00 [+0.00, +0.00]", "[+0.00, +0.00]", str(len(SPLITS) - 1), "+0.00, +0.00"]
    shown = as_read(results_table([ours, theirs], settings), [ours, theirs], Footnotes([ours, theirs], settings, {}), settings)
    assert "[95 %] over sources" in shown.heads


def test_results_without_folds_are_stale_once_there_are_some(world, tmp_path):
    inputs, models, _, results = world
    today = {"folds": {"number": 3, "by": None}}
    assert not [line for line in read_run("run", inputs.run, results, results, today).stale if line.startswith("folds")]
    for path in models.glob("seed-*-fold-0.*"):
        shutil.copy(path, tmp_path / path.name.replace("-fold-0", ""))
    evaluate_run(replace(inputs, folds=None), tmp_path, EVERY_STEP, tmp_path)
    assert read_run("run", inputs.run, tmp_path, results, today).stale[-1] == "folds.number – -> 3"
