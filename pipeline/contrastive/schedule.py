"""Optimizer and learning rate of a fine-tuning.

The rate depends on the settings and the step alone, so the schedule has no state to resume.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from pipeline.contrastive.settings import FinetuneSettings


def learning_rate_factor(settings: FinetuneSettings, step: int, steps_per_epoch: int) -> float:
    """Factor in (0, 1] on the learning rates: linear warm-up, then steps down or half a cosine to 0.

    Args:
        step: counted from 0.
    """
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "step":
        passed = sum(step // steps_per_epoch >= milestone for milestone in settings.milestones)
        return settings.decay**passed
    total = max(settings.epochs * steps_per_epoch - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / total))


def make_optimizer(settings: FinetuneSettings, encoder: Iterable[nn.Parameter], heads: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer: a group for the encoder's trainable parameters, if any, and one for the heads', each with ``initial_lr``."""
    rates = (settings.learning_rate, settings.head_learning_rate or settings.learning_rate)
    groups = [
        {"params": learning, "lr": rate, "initial_lr": rate}
        for parameters, rate in zip((encoder, heads), rates, strict=True)
        if (learning := [parameter for parameter in parameters if parameter.requires_grad])
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
