"""A recipe's cosine schedule, groups of decay, and average of the weights, alone and in a training that is killed and resumed."""

import json
import math
from dataclasses import replace

import pytest
import torch
from contract import DENSE
from kills import kill_at
from pydantic import ValidationError
from safetensors.torch import load_file
from test_runs import make_inputs, train
from torch import nn

from pipeline.methods.base import Recipe
from pipeline.training import loop
from pipeline.training.average import WeightAverage
from pipeline.training.optimizer import optimizer_of, schedules_of


def test_the_rate_rises_from_zero_and_falls_along_a_cosine():
    """Five warm-up epochs of four steps and fifteen more, against the formula."""
    recipe = Recipe(learning_rate=1e-4, epochs=20, schedule="cosine", warmup_epochs=5)
    optimizer = optimizer_of(recipe, nn.Linear(2, 2).parameters())
    _, by_step = schedules_of(recipe, optimizer, 4)
    rates = []
    for _ in range(80):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        by_step.step()
    rising = [1e-4 * k / 19 for k in range(20)]
    falling = [1e-8 + (1e-4 - 1e-8) * (1 + math.cos(math.pi * k / 60)) / 2 for k in range(60)]
    assert rates == pytest.approx(rising + falling)
    assert rates[0] == 0


def test_one_recipe_has_one_schedule():
    for settings in ({"schedule": "cosine", "milestones": (3,)}, {"warmup_epochs": 2}):
        with pytest.raises(ValidationError, match="schedule: cosine"):
            Recipe(**settings)


def test_biases_norms_and_scales_do_not_decay():
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv1d(4, 2, 3))
    groups = optimizer_of(Recipe(optimizer="adamw", weight_decay=0.1, decayed="matrices"), network.parameters()).param_groups
    by_decay = {group["weight_decay"]: [weight.ndim for weight in group["params"]] for group in groups}
    assert by_decay == {0.1: [2, 3], 0.0: [1, 1, 1, 1]}
    (whole,) = optimizer_of(Recipe(weight_decay=0.1), network.parameters()).param_groups
    assert len(whole["params"]) == 6


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_is_that_of_a_loop(warmup):
    torch.manual_seed(0)
    network = nn.Linear(3, 2).double()
    average = WeightAverage(network, 0.9, warmup)
    mean = network.weight.detach().clone()
    for k in range(12):
        with torch.no_grad():
            network.weight += torch.randn(2, 3)
        taken = k != 5  # a step that was skipped does not count
        average.update(torch.tensor(taken) if k % 2 else None)
        if taken:
            decay = min(0.9, (1 + k - (k > 5)) / (10 + k - (k > 5))) if warmup else 0.9
            mean = decay * mean + (1 - decay) * network.weight.detach()
    torch.testing.assert_close(average.means[0], mean)


def test_the_network_has_the_average_for_as_long_as_it_is_judged():
    network = nn.Linear(3, 2)
    average = WeightAverage(network, 0.9, warmup=True)
    with torch.no_grad():
        network.weight += 1
    place, weight, mean = network.weight.data_ptr(), network.weight.detach().clone(), average.means[0].clone()
    with average.in_place():
        assert torch.equal(network.weight, mean)
        assert network.weight.data_ptr() == place  # a recorded step reads it there
    assert torch.equal(network.weight, weight)
    assert torch.equal(average.means[0], mean)


def dense_inputs(root):
    """The clips of test_runs with one event each, for a detector."""
    inputs = make_inputs(root, seeds=(3,))
    settings = {**DENSE, "width": 8, "stem": 0, "dependency_width": 0}
    settings["recipe"] = {"learning_rate": 0.02, "batch_size": 5, "epochs": 3, "warmup_epochs": 1}
    run = inputs.run.model_copy(update={"task": "dave", "method": "unav"})
    return replace(inputs, run=run, settings=settings)


def test_a_detector_killed_and_resumed_gives_the_same_bytes(tmp_path, monkeypatch):
    """Rate, average and normaliser go on where they were, within an epoch."""
    expected = train(dense_inputs(tmp_path / "whole"), tmp_path / "whole" / "run")
    step, inputs = loop.Trainer._step, dense_inputs(tmp_path)
    kill_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "killed")
    monkeypatch.setattr(loop.Trainer, "_step", step)
    assert train(inputs, tmp_path / "killed") == expected
    history = json.loads(expected["seed-3.json"])["history"]
    assert history[0]["learning_rate"] == 0.02  # after the warm-up's epoch
    assert history[-1]["learning_rate"] < 1e-6
    assert load_file(tmp_path / "whole" / "run" / "seed-3.safetensors")["normaliser"] != 250
