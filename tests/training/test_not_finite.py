"""Gradients, weights and scores that are not finite are skipped, counted, named, never kept, and refused when read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_runs import EVERY_STEP, SELDOM, make_inputs, train

from pipeline.errors import PipelineError
from pipeline.tasks.avel import Scores
from pipeline.tasks.avvp import ParsingScores
from pipeline.tasks.cml import MatchingScores
from pipeline.training import loop, optimizer
from pipeline.training.evaluate import evaluate_run
from pipeline.training.steps import StepsInTurn
from pipeline.training.trained import load_seed
from tests.wording import each_says, one_says, says

STEPS = 3  # of an epoch: ten clips in batches of four


def run(root: Path, epochs: int = 4, **recipe):
    """One seed, keeping its last epoch."""
    inputs = make_inputs(root, epochs=epochs, seeds=(3,))
    inputs.settings["recipe"] |= {"selection": "last", "clip_norm": None, **recipe}
    return inputs


def facts_of(directory: Path) -> dict:
    return json.loads((directory / "seed-3.json").read_text(encoding="utf-8"))


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "seed-3.safetensors")


def poison_gradients(monkeypatch, steps, value=torch.inf) -> list[list[str]]:
    """Set one number of the gradient at these steps (from 0); return the clips of every step."""
    backward, step, clips = StepsInTurn._update, loop.Trainer._step, []

    def noted(self, rows, *arguments):
        clips.append([self.train.clips[int(each)] for each in rows])
        return step(self, rows, *arguments)

    def update(self, total):
        weight = next(self.method.parameters())
        number = len(clips) - 1
        spoil = lambda gradient: gradient.clone().index_fill_(0, torch.tensor([0]), value)  # noqa: E731
        handle = weight.register_hook(spoil) if number in steps else None
        taken = backward(self, total)
        if handle is not None:
            handle.remove()
        return taken

    monkeypatch.setattr(loop.Trainer, "_step", noted)
    monkeypatch.setattr(StepsInTurn, "_update", update)
    return clips


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.fault(31)
def test_an_infinite_gradient_in_the_last_step_is_skipped_counted_and_named(tmp_path, monkeypatch, clip_norm, value):
    """The published weights are those of the same run without its last batch."""
    inputs = run(tmp_path / "a", clip_norm=clip_norm)
    clips = poison_gradients(monkeypatch, {4 * STEPS - 1}, value)
    train(inputs, tmp_path / "run", SELDOM)
    facts = facts_of(tmp_path / "run")
    assert facts["skipped_steps"] == 1
    assert each_says(facts["faults"], [("epoch 3", "gradient", f"2 ({', '.join(clips[-1])})")])
    assert facts["best_epoch"] == 3
    left_out = loop.Trainer._step
    monkeypatch.setattr(loop.Trainer, "_step", lambda self, *given: len(clips) < 8 * STEPS - 1 and left_out(self, *given))
    train(run(tmp_path / "b", clip_norm=clip_norm), tmp_path / "without", SELDOM)
    assert all(torch.equal(value, weights_of(tmp_path / "without")[name]) for name, value in weights_of(tmp_path / "run").items())


def test_a_large_finite_gradient_is_not_skipped(tmp_path, monkeypatch):
    """The sum of its squares is infinite in float32."""
    poison_gradients(monkeypatch, {1}, 1e25)
    train(run(tmp_path), tmp_path / "run", SELDOM)
    assert facts_of(tmp_path / "run")["skipped_steps"] == 0


def test_a_healthy_run_reports_no_faults(tmp_path):
    train(run(tmp_path), tmp_path / "run", SELDOM)
    assert facts_of(tmp_path / "run")["skipped_steps"] == 0
    assert "faults" not in facts_of(tmp_path / "run")


@pytest.mark.fault(31)
def test_nonfinite_patience_counts_gradients_like_losses(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        clips = poison_gradients(patch, {0, 2, 3, 5})
        with pytest.raises(PipelineError, match=r"gradient.* 4 .*epoch 1.*: clip\d+, clip\d+$"):
            train(run(tmp_path), tmp_path / "run", SELDOM)
    assert not list((tmp_path / "run").glob("*.safetensors"))
    saved = tmp_path / "live" / "seed-3" / "not_finite.json"
    assert json.loads(saved.read_text(encoding="utf-8")) == {"what": "gradient", "epoch": 1, "clips": clips[-1]}
    train(run(tmp_path / "again"), tmp_path / "run", SELDOM)
    assert not saved.exists()


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.fault(31)
def test_an_epoch_without_a_step_is_never_the_best(tmp_path, monkeypatch, validation, capsys):
    inputs = run(tmp_path)
    if not validation:
        inputs.index.loc[inputs.index["split"] == "val", "split"] = "none"
    poison_gradients(monkeypatch, {9, 10, 11})
    train(inputs, tmp_path / "run", SELDOM)
    facts = facts_of(tmp_path / "run")
    assert facts["best_epoch"] == 2
    assert says(facts["faults"][-1], "epoch 3", "skipped")
    assert one_says(capsys.readouterr().out.splitlines(), "run, seed 3", facts["faults"][-1])


@pytest.mark.fault(31)
def test_nothing_is_published_if_no_epoch_can_be_kept(tmp_path, monkeypatch):
    poison_gradients(monkeypatch, {0, 1, 2})
    with pytest.raises(PipelineError, match=r"run, seed 3: .*epoch 0.*skipped"):
        train(run(tmp_path, epochs=1), tmp_path / "run", SELDOM)
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.fault(31)
def test_weights_made_infinite_by_a_step_are_never_kept(tmp_path, monkeypatch, validation):
    """With validation the scores show it, without validation the weights."""
    steps = 0

    class Breaking(torch.optim.Adam):
        def step(self, closure=None):
            nonlocal steps
            super().step(closure)
            steps += 1
            if steps == 4 * STEPS:
                self.param_groups[0]["params"][-1].data.fill_(torch.inf)

    monkeypatch.setitem(optimizer.OPTIMIZERS, "adam", Breaking)
    inputs = run(tmp_path)
    if not validation:
        inputs.index.loc[inputs.index["split"] == "val", "split"] = "none"
    train(inputs, tmp_path / "run", SELDOM)
    assert facts_of(tmp_path / "run")["best_epoch"] == 2
    (fault,) = facts_of(tmp_path / "run")["faults"]
    assert says(fault, "epoch 3", *(("scores", "validation", "5 (clip10, clip11") if validation else ("weights", "1 (")))
    assert all(torch.isfinite(value).all() for value in weights_of(tmp_path / "run").values())


def spoil(directory: Path, value: float) -> str:
    weights = weights_of(directory)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point() and tensor.ndim > 1)
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, directory / "seed-3.safetensors")
    return name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.fault(31)
def test_stored_weights_that_are_not_finite_are_refused_with_their_file(tmp_path, value):
    inputs = run(tmp_path, epochs=1)
    train(inputs, tmp_path / "run", SELDOM)
    name = spoil(tmp_path / "run", value)
    with pytest.raises(PipelineError, match=rf"run/seed-3\.safetensors: .*1 \({name}\)"):
        load_seed(tmp_path / "run", 3)
    with pytest.raises(PipelineError, match=r"run/seed-3\.safetensors"):
        evaluate_run(inputs, tmp_path / "run", EVERY_STEP, tmp_path)


@pytest.mark.fault(31)
def test_evaluation_refuses_finite_weights_that_predict_nan(tmp_path):
    inputs = run(tmp_path, epochs=1)
    train(inputs, tmp_path / "run", SELDOM)
    spoil(tmp_path / "run", 3e38)
    with pytest.raises(PipelineError, match=r"run/seed-3\.safetensors: .*scores.*val.* 5 \(clip10, clip11"):
        evaluate_run(inputs, tmp_path / "run", EVERY_STEP, tmp_path)
    assert not (tmp_path / "predictions.parquet").exists()


def test_scores_of_padding_may_be_non_finite():
    """(B, T) = (3, 2): the second clip has one segment, the third none at all."""
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    segments, event, classes, attention = torch.zeros(3, 2, 4), torch.zeros(3, 2), torch.zeros(3, 3), torch.zeros(3, 2, 5)
    segments[1, 1], event[1, 1], attention[1, 1], classes[2], segments[2] = torch.nan, torch.inf, torch.nan, torch.nan, torch.nan
    assert Scores(segments, event, classes, attention).finite(mask).tolist() == [True, True, True]
    assert Scores(segments, None, None).finite(mask).tolist() == [True, True, True]
    for spoiled in (segments[0, 1], event[1, :1], classes[1], attention[0, 0]):
        before = spoiled.clone()
        spoiled[-1] = -torch.inf
        assert Scores(segments, event, classes, attention).finite(mask).sum() == 2
        spoiled.copy_(before)


def test_only_windows_within_the_clip_must_be_finite():
    """T = 3, two valid segments: windows of length 1 start at 0 and 1, those of length 2 at 0."""
    mask = torch.tensor([[True, True, False]])
    for where, right in {(0, 0, 1): False, (0, 1, 1): False, (1, 0, 0): False, (0, 2, 0): True, (1, 0, 1): True, (2, 0, 0): True}.items():
        scores = MatchingScores(torch.zeros(1, 3, 3, 3), torch.zeros(1, 3, 3, 3))
        scores.visual_to_audio[(0, *where)] = torch.nan
        assert scores.finite(mask).item() is right, where


def test_every_parsing_score_and_threshold_must_be_finite():
    mask = torch.tensor([[True, False]])
    for number in range(5):
        parts = [torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 2, 2, 3)]
        assert ParsingScores(*parts).finite(mask).item()
        parts[number][0, 0] = torch.nan
        assert not ParsingScores(*parts).finite(mask).item()
