"""The splits and scores of several folds put together: every clip once, by the network of its fold.

Shape letters: N rows of all folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pipeline.training.data import SplitData


def pooled(parts: Sequence[SplitData]) -> SplitData:
    """Put one split of several folds together, in annotation order, without features; one alone is returned."""
    if len(parts) == 1:
        return parts[0]
    order = annotation_order(parts)
    filled = [part for part in parts if len(part)] or parts[:1]
    seconds = [part.seconds for part in parts if part.seconds is not None]
    return replace(
        filled[0],
        mask=torch.cat([part.mask for part in parts])[order],
        targets=type(filled[0].targets).concatenate([part.targets for part in filled])[order],
        rows=_listed([part.rows for part in parts], order),
        clips=_listed([part.clips for part in parts], order),
        missing=sorted({clip for part in parts for clip in part.missing}),
        seconds=torch.cat(seconds)[order] if len(seconds) == len(parts) else None,
    )


def pooled_scores(scores: Sequence[Any], parts: Sequence[SplitData]) -> Any:
    """Put the scores of :func:`pooled` splits together, in the same order.

    Args:
        scores: of every part that has rows, in the order of the parts.
    """
    return scores[0] if len(parts) == 1 else type(scores[0]).concatenate(scores)[annotation_order(parts)]


def annotation_order(parts: Sequence[SplitData]) -> Tensor:
    """Positions, (N,), of the rows of all parts in the order of the annotations."""
    return torch.tensor([row for part in parts for row in part.rows], dtype=torch.int64).argsort(stable=True)


def _listed(values: Sequence[Sequence[Any]], order: Tensor) -> list[Any]:
    flat = [value for of_part in values for value in of_part]
    return [flat[position] for position in order.tolist()]
