"""Hypotheses on the numbers of two stores alone: each changes one side, and is right if the difference disappears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.parity import fits
from pipeline.parity.pairs import Sample

MOST_SHIFT = 3  # segments


@dataclass(frozen=True)
class Hypothesis:
    """A possible cause of a difference, and how to undo it.

    cause: a sentence about the published features.
    factor: two hypotheses of the same factor are not combined.
    apply: the sample with one side changed; None where the hypothesis does not apply.
    freedom: how much is fitted to the numbers, 0 for nothing; a higher one includes what the lower ones can do.
    """

    name: str
    cause: str
    factor: str
    apply: Callable[[Sample], Sample | None]
    freedom: int = 0


def simple_hypotheses(shape: tuple[int, ...], segments: int) -> Iterator[Hypothesis]:
    """Yield the hypotheses without fitted parameters for segments of this shape."""
    yield Hypothesis("relu_missing", "they were taken before the final ReLU that ours went through", "relu", _relu_missing)
    yield Hypothesis("relu_added", "they went through a final ReLU, ours did not", "relu", _relu_added)
    yield Hypothesis("sign", "they have the opposite sign", "sign", lambda sample: sample.but(ours=-sample.ours))
    yield Hypothesis("unit_length", "each is scaled to length 1, ours is not", "scale", _unit_length)
    yield Hypothesis(
        "channels_reversed", "their feature channels are in reverse order", "channels", lambda s: s.but(ours=s.ours[..., ::-1])
    )
    for shift in (sign * count for count in range(1, min(MOST_SHIFT, segments - 1) + 1) for sign in (1, -1)):
        where = f"{abs(shift)} segment{'s' if abs(shift) > 1 else ''} {'earlier' if shift > 0 else 'later'}"
        cause = f"shifted in time: segment t of theirs shows what ours shows {where}"
        yield Hypothesis(f"segments_shifted_{shift:+d}", cause, "time", lambda sample, by=shift: _shifted(sample, by))  # type: ignore[misc]
    if len(shape) == 3:
        yield from _map_hypotheses(shape)


def _map_hypotheses(shape: tuple[int, ...]) -> Iterator[Hypothesis]:
    """Yield other orders of the positions, or of the axes, of maps (height, width, D)."""
    height, width, channels = shape
    if height == width:
        yield Hypothesis(
            "map_transposed", "their maps have rows and columns exchanged", "map", lambda s: s.but(ours=np.swapaxes(s.ours, 2, 3))
        )
    yield Hypothesis("map_mirrored", "their maps are mirrored left to right", "map", lambda s: s.but(ours=s.ours[:, :, :, ::-1]))
    yield Hypothesis("map_upside_down", "their maps are upside down", "map", lambda s: s.but(ours=s.ours[:, :, ::-1]))

    def channels_first(sample: Sample) -> Sample:
        stored = sample.published.reshape(*sample.mask.shape, channels, height, width)
        return sample.but(published=np.moveaxis(stored, 2, -1))

    def channels_last(sample: Sample) -> Sample:
        stored = np.moveaxis(sample.ours, -1, 2)
        return sample.but(ours=sample.ours.reshape(stored.shape).transpose(0, 1, 3, 4, 2))

    yield Hypothesis("channels_first", "their memory holds the channels first, read as if they came last", "map", channels_first)
    yield Hypothesis("channels_last", "their memory held the channels last, read as if they came first", "map", channels_last)


def fitted_hypotheses() -> Iterator[Hypothesis]:
    """Yield the hypotheses fitted on half of the clips and judged on the other half, the simplest first."""
    yield Hypothesis("scale", "they are scaled by one number", "scale", fits.scaled, freedom=1)
    yield Hypothesis(
        "standardised", "every channel is scaled and shifted by its own numbers (standardisation)", "scale", fits.per_channel, freedom=2
    )
    yield Hypothesis("channels_permuted", "their feature channels are in another order", "channels", fits.permuted, freedom=2)
    yield Hypothesis(
        "linear",
        "they are a linear map of ours: PCA or whitening, or another last linear layer (clipped at both ends, if they are)",
        "linear",
        fits.linear,
        freedom=3,
    )


def _relu_missing(sample: Sample) -> Sample | None:
    ours, published = _counted(sample.ours, sample), _counted(sample.published, sample)
    if ours.size and ours.min() >= 0 > published.min():
        return sample.but(published=np.maximum(sample.published, 0))
    return None


def _relu_added(sample: Sample) -> Sample | None:
    ours, published = _counted(sample.ours, sample), _counted(sample.published, sample)
    if ours.size and published.min() >= 0 > ours.min():
        return sample.but(ours=np.maximum(sample.ours, 0))
    return None


def _unit_length(sample: Sample) -> Sample | None:
    lengths = np.linalg.norm(sample.published, axis=-1)[sample.mask]
    if not lengths.size or not np.allclose(lengths, 1, atol=2e-3):
        return None
    norms = np.linalg.norm(sample.ours, axis=-1, keepdims=True)
    return sample.but(ours=sample.ours / np.where(norms == 0, 1, norms))


def _shifted(sample: Sample, by: int) -> Sample:
    """Pair our segment t with their segment t + by; segments without a partner do not count."""
    mask = np.zeros_like(sample.mask)
    ours = np.zeros_like(sample.ours)
    here, there = (slice(None, -by), slice(by, None)) if by > 0 else (slice(-by, None), slice(None, by))
    ours[:, there] = sample.ours[:, here]
    mask[:, there] = sample.mask[:, here] & sample.mask[:, there]
    return sample.but(ours=ours, mask=mask)


def _counted(values: np.ndarray, sample: Sample) -> np.ndarray:
    return values[sample.mask]
