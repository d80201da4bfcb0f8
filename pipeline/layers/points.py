"""Points of a pyramid over time: which events they learn, the losses of an anchor-free detector, and its candidates.

As the released UnAV detector (Geng et al., CVPR 2023), which took them from ActionFormer without its sampling around the centre. A point
has one probability for every class and, for every class, the distances to the start and the end of an event.

Shape letters: B clips, P points of all levels, E events of a clip, C classes. Places and lengths are in steps of the finest level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pipeline.layers.precision import at_least_float32

FINEST_RANGE = 4  # steps; the longer side of an event belongs to level l from this times 2^(l-1) to this times 2^l
LEAST = 1e-8  # of a length that is divided by
POSITIVE_SHARE = 0.25  # alpha of the focal loss
LEAST_SCORE = 0.001  # of a candidate
MOST_OF_A_LEVEL = 2000  # candidates
SHORTEST = 0.05  # steps, of a candidate


class Points(NamedTuple):
    """The P points, level by level.

    place, stride: (P,), steps.
    low, high: (P,), bounds of the longer side of the events that the point learns, both included.
    """

    place: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor


def pyramid_points(sizes: Sequence[int], like: Tensor) -> Points:
    """Lay the points of all levels, without an offset: point k of level l stands at k 2^l.

    Args:
        sizes: number of points by level.
        like: gives dtype and device.
    """
    columns: list[list[Tensor]] = []
    for level, size in enumerate(sizes):
        place = torch.arange(size, device=like.device, dtype=like.dtype) * 2**level
        last = level == len(sizes) - 1
        bounds = (1, FINEST_RANGE * 2 ** (level - 1) if level else 0, float("inf") if last else FINEST_RANGE * 2**level)
        columns.append([place, *(torch.full_like(place, value) for value in (2**level, *bounds[1:]))])
    return Points(*(torch.cat(column) for column in zip(*columns, strict=True)))


class Assigned(NamedTuple):
    """What the points learn.

    classes: (B, P, C), 1 for the classes of the point's events, else 0.
    owned: (B, P, E), bool: the event gives the distances of its class.
    sides: (B, P, E, 2), distances to start and end in strides; meaningful where owned.
    positive: (B, P), bool: points with an event.
    of_class: (B, E, C), one-hot; zero for an entry without an event.
    """

    classes: Tensor
    owned: Tensor
    sides: Tensor
    positive: Tensor
    of_class: Tensor


def assign(points: Points, spans: Tensor, labels: Tensor, valid: Tensor, num_classes: int) -> Assigned:
    """Give every point the events that it lies strictly inside of and whose longer side is in its level's range.

    A side on the boundary of two ranges belongs to both levels. Where several events of a class claim a point, the shortest gives the
    distances, and the first of equals (released: the last in the file; in UnAV-100 it never happens).

    Args:
        points: P points.
        spans: (B, E, 2), start and end, in steps.
        labels: (B, E), int64; -1: no event.
        valid: (B, P), bool.
        num_classes: C.
    """
    start, end = (side.unsqueeze(1) for side in spans.to(points.place.dtype).unbind(dim=-1))  # (B, 1, E)
    place, stride, low, high = (values[None, :, None] for values in points)
    left, right = place - start, end - place
    longer = torch.maximum(left, right)
    inside = (torch.minimum(left, right) > 0) & (longer >= low) & (longer <= high)
    inside = inside & (labels >= 0).unsqueeze(1) & valid.unsqueeze(-1)  # (B, P, E)
    of_class = (labels.unsqueeze(-1) == torch.arange(num_classes, device=labels.device)).to(points.place.dtype)
    claims = inside.to(points.place.dtype)
    beaten = claims @ _before(spans[..., 1] - spans[..., 0], labels).to(claims.dtype) > 0.5
    return Assigned(
        classes=(claims @ of_class > 0.5).to(claims.dtype),
        owned=inside & ~beaten,
        sides=torch.stack([left, right], dim=-1) / stride.unsqueeze(-1),
        positive=inside.any(dim=-1),
        of_class=of_class,
    )


def _before(length: Tensor, labels: Tensor) -> Tensor:
    """Pairs of events of one class whose first has the right of way.

    (B, E), (B, E) -> (B, E, E) bool.
    """
    events = torch.arange(labels.shape[1], device=labels.device)
    first, second = length.unsqueeze(2), length.unsqueeze(1)
    earlier = (events.unsqueeze(1) < events.unsqueeze(0)).unsqueeze(0)
    return (labels.unsqueeze(2) == labels.unsqueeze(1)) & ((first < second) | ((first == second) & earlier))


def focal_loss(logits: Tensor, classes: Tensor, valid: Tensor) -> Tensor:
    """Focal loss, summed over valid points and classes: alpha_t (1 - p_t)^2 times the cross-entropy.

    alpha_t is 1/4 for a class of the point and 3/4 for the others.

    Args:
        logits, classes: (B, P, C).
        valid: (B, P), bool.
    """
    logits = at_least_float32(logits)
    p = logits.sigmoid()
    right = p * classes + (1 - p) * (1 - classes)
    weight = (POSITIVE_SHARE * classes + (1 - POSITIVE_SHARE) * (1 - classes)) * (1 - right) ** 2
    terms = weight * binary_cross_entropy_with_logits(logits, classes.to(logits.dtype), reduction="none")
    return torch.where(valid.unsqueeze(-1), terms, 0.0).sum()


def distance_loss(sides: Tensor, true_sides: Tensor) -> Tensor:
    """DIoU loss of spans around the same point.

    1 - IoU + (distance of the centres / length of the hull)^2.

    (..., 2), (..., 2), distances to start and end, at least 0 -> (...).
    """
    (left, right), (true_left, true_right) = (at_least_float32(each).unbind(dim=-1) for each in (sides, true_sides))
    common = torch.minimum(left, true_left) + torch.minimum(right, true_right)
    union = left + right + true_left + true_right - common
    hull = torch.maximum(left, true_left) + torch.maximum(right, true_right)
    apart = (right - left - true_right + true_left) / 2
    return 1 - common / union.clamp(min=LEAST) + (apart / hull.clamp(min=LEAST)) ** 2


def span_loss(sides: Tensor, assigned: Assigned) -> Tensor:
    """Sum of :func:`distance_loss` over the points and the classes that they learn.

    Args:
        sides: (B, P, C, 2), distances in strides.
    """
    with torch.autocast(sides.device.type, enabled=False):
        sides, of_class = at_least_float32(sides), at_least_float32(assigned.of_class)
        of_events = torch.einsum("bpcs,bec->bpes", sides, of_class)  # exact: all but one product is zero
        # A span that is not owned may end before its point; any positive one keeps its gradient from being NaN.
        truth = torch.where(assigned.owned.unsqueeze(-1), assigned.sides.to(sides.dtype), 1.0)
        return torch.where(assigned.owned, distance_loss(of_events, truth), 0.0).sum()


class Candidates(NamedTuple):
    """Detections before suppression, K a clip; an entry that is none has the score 0.

    spans: (B, K, 2), in steps.
    labels: (B, K), int64.
    scores: (B, K).
    """

    spans: Tensor
    labels: Tensor
    scores: Tensor


def candidates(logits: Tensor, sides: Tensor, points: Points, valid: Tensor, sizes: Sequence[int]) -> Candidates:
    """The best pairs of point and class of every level, as spans.

    A candidate's probability is above 0.001, it is among the 2000 best of its level, and it is longer than 0.05 steps.

    Args:
        logits: (B, P, C).
        sides: (B, P, C, 2), in strides.
        points, valid: as in :func:`assign`.
        sizes: number of points by level.
    """
    number = logits.shape[-1]
    scores = torch.where(valid.unsqueeze(-1), at_least_float32(logits).sigmoid(), 0.0)
    start = points.place[:, None] - points.stride[:, None] * at_least_float32(sides[..., 0])  # (B, P, C)
    end = points.place[:, None] + points.stride[:, None] * at_least_float32(sides[..., 1])
    found: list[Candidates] = []
    first = 0
    for size in sizes:
        level = slice(first, first + size)
        best, which = scores[:, level].flatten(1).topk(min(MOST_OF_A_LEVEL, size * number), dim=1)
        spans = torch.stack([side[:, level].flatten(1).gather(1, which) for side in (start, end)], dim=-1)
        good = (best > LEAST_SCORE) & (spans[..., 1] - spans[..., 0] > SHORTEST)
        found.append(Candidates(spans, which % number, torch.where(good, best, 0.0)))
        first += size
    return Candidates(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))
