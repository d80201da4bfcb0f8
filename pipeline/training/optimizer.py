"""A recipe's optimizer and its schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from pipeline.methods.base import Recipe

OPTIMIZERS: dict[str, type[Any]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
LAST_RATE = 1e-8  # learning rate that a cosine falls to


def optimizer_of(recipe: Recipe, parameters: Iterable[nn.Parameter], **options: bool) -> torch.optim.Optimizer:
    """Make the optimizer; with ``decayed: matrices`` weights of one dimension (biases, norms, scales) are a group without decay."""
    rates = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, **options}
    if recipe.decayed == "all":
        return OPTIMIZERS[recipe.optimizer](parameters, **rates)
    weights = list(parameters)
    matrices, others = ([weight for weight in weights if (weight.ndim > 1) == decays] for decays in (True, False))
    return OPTIMIZERS[recipe.optimizer]([{"params": matrices}, {"params": others, "weight_decay": 0.0}], **rates)


def schedules_of(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_of_epoch: int) -> tuple[LRScheduler, LRScheduler]:
    """Make the schedule that counts epochs and the one that counts batches."""
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
