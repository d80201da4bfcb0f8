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
from test_runs import SELDOM, make_inputs, train
from torch import nn

from pipeline.methods.base import MethodConfig, Recipe
from pipeline.training import loop
from pipeline.training.average import WeightAverage
from pipeline.training.optimizer import optimizer_of, schedules_of


def test_the_rate_rises_from_zero_and_falls_along_a_cosine():
    """Five warm-up epochs of four steps and fifteen more, against the formula."""
    recipe = Recipe(learning_rate=1e-4, epochs=20, schedule="cosine", warmup_epochs=5)
    optimizer = optimizer_of(recipe, nn.Linear(2, 2))
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


def test_the_rate_rises_and_falls_epoch_by_epoch():
    """VALOR's sixty epochs, counted from 1, with ten of warm-up; each part of the network at its own factor."""
    network = nn.ModuleDict({"main": nn.Linear(2, 2), "fast": nn.Linear(2, 2), "slow": nn.Linear(2, 2)})
    recipe = Recipe(
        optimizer="adamw", betas=(0.5, 0.99), learning_rate=1e-2, epochs=60, schedule="warmup_cosine", warmup_epochs=10, minimum=1e-4,
        rate_factors={"slow": 0.2, "fast": 2.0},
    )  # fmt: skip
    optimizer = optimizer_of(recipe, network)
    by_epoch, by_step = schedules_of(recipe, optimizer, 7)
    rates = []
    for _ in range(60):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        by_step.step()
        by_epoch.step()
    expected = [
        1e-2 * e / 10 if e < 10 else 1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * (e - 10) / 50)) / 2 for e in range(1, 61)
    ]  # fmt: skip
    assert [main for main, _, _ in rates] == pytest.approx(expected)
    assert rates[-1][0] == pytest.approx(1e-4)
    assert all(slow == pytest.approx(0.2 * main) and fast == pytest.approx(2 * main) for main, slow, fast in rates)
    parts = zip(optimizer.param_groups, ("main", "slow", "fast"), strict=True)
    assert all(group["params"][0] is network[name].weight for group, name in parts)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.5, 0.99)}


def test_one_recipe_has_one_schedule():
    for settings in ({"schedule": "cosine", "milestones": (3,)}, {"warmup_epochs": 2}):
        with pytest.raises(ValidationError, match="schedule: cosine"):
            Recipe(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "warmup_cosine", "milestones": (3,)}, "schedule: warmup_cosine has no milestones"),
        ({"schedule": "warmup_cosine", "minimum": 0.1, "learning_rate": 0.01}, "minimum 0.1 needs .* learning_rate"),
        ({"minimum": 1e-6}, "minimum 1e-06 needs schedule: warmup_cosine"),
        ({"optimizer": "sgd", "betas": (0.5, 0.999)}, "sgd has none"),
        ({"betas": (0.5, 1.0)}, "less than 1"),
        ({"rate_factors": {"slow": 0.0}}, "greater than 0"),
    ],
)
def test_recipes_that_say_two_things_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        Recipe(**settings)


def test_a_factor_of_a_part_that_the_method_does_not_name_is_refused():
    with pytest.raises(ValidationError, match=r"recipe\.rate_factors: head: no such part; this method names none"):
        MethodConfig(recipe={"rate_factors": {"head": 2.0}})


def test_biases_norms_and_scales_do_not_decay():
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv1d(4, 2, 3))
    groups = optimizer_of(Recipe(optimizer="adamw", weight_decay=0.1, decayed="matrices"), network).param_groups
    by_decay = {group["weight_decay"]: [weight.ndim for weight in group["params"]] for group in groups}
    assert by_decay == {0.1: [2, 3], 0.0: [1, 1, 1, 1]}
    (whole,) = optimizer_of(Recipe(weight_decay=0.1), network).param_groups
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
    expected = train(dense_inputs(tmp_path / "whole"), tmp_path / "whole" / "run", SELDOM)
    step, inputs = loop.Trainer._step, dense_inputs(tmp_path)
    kill_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "killed")
    monkeypatch.setattr(loop.Trainer, "_step", step)
    assert train(inputs, tmp_path / "killed", SELDOM) == expected
    history = json.loads(expected["seed-3.json"])["history"]
    assert history[0]["learning_rate"] == 0.02  # after the warm-up's epoch
    assert history[-1]["learning_rate"] < 1e-6
    assert load_file(tmp_path / "whole" / "run" / "seed-3.safetensors")["normaliser"] != 250
