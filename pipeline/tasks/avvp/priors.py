"""Trivial answers to video parsing from a clip's true labels and from which classes are rarely heard or seen.

Such a prior is learned from validation, whose segments are labelled; training clips have labels of whole clips alone. These answers use the
true labels of the clips that they answer, so they are no methods. They show how much of a method's gain one constant gives: on LLP's test
clips, *Speech never seen* scores a segment Type@AV of 70.0.

Shape letters: N clips, T segments, C classes; the order of the modalities is audio, visual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.metrics.parsing import count
from pipeline.tasks.avvp.scores import HEADLINE, both_rules
from pipeline.tasks.avvp.targets import MODALITIES, ParsingTargets

LEAST = {"class_prior": 0.25, "majority_prior": 0.5}  # share of a class's seconds from which on the answer gives it


def shares(known: ParsingTargets, mask: Tensor) -> Tensor:
    """Share of the valid segments of the clips labelled with a class in which it is audible, and visible.

    Returns:
        (2, C); NaN for a class without such clips.
    """
    labelled = known.labels[:, None] & mask[:, :, None]  # (N, T, C)
    on = torch.stack([(table & labelled).sum(dim=(0, 1)) for table in (known.audio, known.visual)])
    return on / labelled.sum(dim=(0, 1))


def answers(truth: ParsingTargets, known: ParsingTargets, known_mask: Tensor) -> dict[str, Tensor]:
    """The clip's true labels in all segments, without classes on in too few.

    Returns:
        (N, 2, T, C), bool, by answer.
    """
    found, everywhere = shares(known, known_mask), truth.labels[:, None, None].expand(-1, 2, truth.audio.shape[1], -1)
    return {name: everywhere & ~(found < least)[None, :, None] for name, least in LEAST.items()}


def prior_scores(truth: ParsingTargets, mask: Tensor, known: ParsingTargets, known_mask: Tensor) -> dict[str, Any]:
    """Scores of :func:`answers`, in the form of :func:`pipeline.tasks.avvp.scores.score`.

    Returns:
        ``trivial``, ``baseline_class_prior``, ``baseline_majority_prior``: as there. ``never``: by answer and modality, the numbers of the
        classes that it never gives.
    """
    audio, visual = (table.transpose(1, 2).numpy() for table in (truth.audio, truth.visual))
    tables = {name: answer.transpose(2, 3).numpy() for name, answer in answers(truth, known, known_mask).items()}
    scores = {name: both_rules(count(said[:, 0], said[:, 1], audio, visual, mask.numpy())) for name, said in tables.items()}
    return {"trivial": scores, **{f"baseline_{name}": of[HEADLINE] for name, of in scores.items()}, "never": never(known, known_mask)}


def never(known: ParsingTargets, known_mask: Tensor) -> dict[str, Mapping[str, list[int]]]:
    """Numbers of the classes that each answer never gives, by answer and modality."""
    found = shares(known, known_mask)
    return {
        name: {modality: (of < least).nonzero().flatten().tolist() for modality, of in zip(MODALITIES, found, strict=True)}
        for name, least in LEAST.items()
    }
