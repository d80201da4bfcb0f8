"""A recipe's optimizer and its schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from pipeline.methods.base import Recipe

OPTIMIZERS: dict[str, type[Any]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
LAST_RATE = 1e-8  # learning rate that a cosine falls to


def optimizer_of(recipe: Recipe, network: nn.Module, **options: bool) -> torch.optim.Optimizer:
    """Make the optimizer.

    The recipe's ``rate_factors`` make a group of each part of the network that they name, behind the group of all others. With
    ``decayed: matrices`` the weights of one dimension (biases, norms, scales) of each group are one without decay.
    """
    rates: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, **options}
    if recipe.optimizer != "sgd":
        rates["betas"] = recipe.betas
    groups = []
    for part, weights in _by_part(recipe, network).items():
        rate = {"lr": recipe.learning_rate * recipe.rate_factors.get(part, 1.0)}
        if recipe.decayed == "all":
            groups.append({"params": weights, **rate})
            continue
        matrices, others = ([weight for weight in weights if (weight.ndim > 1) == decays] for decays in (True, False))
        groups += [{"params": matrices, **rate}, {"params": others, "weight_decay": 0.0, **rate}]
    return OPTIMIZERS[recipe.optimizer](groups, **rates)


def _by_part(recipe: Recipe, network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Weights by part: first, under "", those of no part with a factor."""
    parts: dict[str, list[nn.Parameter]] = {"": [], **{part: [] for part in recipe.rate_factors}}
    for name, weight in network.named_parameters():
        part = name.partition(".")[0]
        parts[part if part in recipe.rate_factors else ""].append(weight)
    return {part: weights for part, weights in parts.items() if weights}


def schedules_of(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_of_epoch: int) -> tuple[LRScheduler, LRScheduler]:
    """Make the schedule that counts epochs and the one that counts batches."""
    if recipe.schedule == "warmup_cosine":
        return LambdaLR(optimizer, warm_cosine_of_epochs(recipe)), MultiStepLR(optimizer, [])
    by_epoch = MultiStepLR(optimizer, list(recipe.milestones), recipe.decay)  # each multiplies the current rate
    if recipe.schedule == "cosine":
        return by_epoch, LambdaLR(optimizer, warm_cosine(recipe, steps_of_epoch))
    return by_epoch, MultiStepLR(optimizer, list(recipe.iteration_milestones), recipe.iteration_decay)


def warm_cosine(recipe: Recipe, steps_of_epoch: int) -> Callable[[int], float]:
    """Learning rate of step k, counted from 0, as a share of the recipe's; as UnAV released it.

    Linear from 0 in the first step to 1 in the last of W warm-up steps, then a cosine that reaches 1e-8 after all steps.
    """
    warm, total = round(recipe.warmup_epochs * steps_of_epoch), recipe.epochs * steps_of_epoch
    last = LAST_RATE / recipe.learning_rate

    def share(step: int) -> float:
        if step < warm:
            return step / max(warm - 1, 1)
        return last + (1 - last) * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1))) / 2

    return share


def warm_cosine_of_epochs(recipe: Recipe) -> Callable[[int], float]:
    """Learning rate of epoch k, counted from 0, as a share of the recipe's; as VALOR released it.

    With e = k + 1 of E epochs and W warm-up epochs: e / W while e < W, then a cosine from 1 in epoch W to ``minimum`` in epoch E.
    """
    warm, last = recipe.warmup_epochs, recipe.minimum / recipe.learning_rate

    def share(epoch: int) -> float:
        if epoch + 1 < warm:
            return (epoch + 1) / warm
        return last + (1 - last) * (1 + math.cos(math.pi * (epoch + 1 - warm) / max(recipe.epochs - warm, 1))) / 2

    return share
