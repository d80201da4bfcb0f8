"""Hypotheses with parameters, fitted on some of the clips and applied to all."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.parity.pairs import Sample

MOST_ROWS = 20_000  # vectors used in a fit at most
CLIPPED_SHARE = 1e-3  # with more of all values at each end, the ends are taken for clipping
CLIP_ROUNDS = 60  # at most; each about halves the error left by clipped values
CLIP_CHANGE = 1e-4  # the rounds end when values change by less, relative to the published deviation
RIDGE = 1e-8  # of the mean variance, so that dead channels do not make the system singular


def scaled(sample: Sample) -> Sample | None:
    """Fit one factor by least squares; None where it is 1."""
    ours, published = _rows(sample)
    if not len(ours) or not (square := float(np.sum(ours * ours))):
        return None
    factor = float(np.sum(ours * published)) / square
    return None if abs(factor - 1) < 1e-3 else sample.but(ours=sample.ours * np.float32(factor))


def per_channel(sample: Sample) -> Sample | None:
    """Fit a factor and an offset for each channel by least squares."""
    ours, published = _rows(sample)
    if len(ours) < 8:
        return None
    means = ours.mean(0), published.mean(0)
    centred = ours - means[0]
    square = np.sum(centred * centred, axis=0)
    factor = np.where(square > 0, np.sum(centred * (published - means[1]), axis=0) / np.where(square > 0, square, 1), 0)
    return sample.but(ours=((sample.ours - means[0]) * factor + means[1]).astype(np.float32))


def permuted(sample: Sample) -> Sample | None:
    """Find the one-to-one assignment of channels with the largest sum of correlations."""
    ours, published = _rows(sample)
    if len(ours) < 8:
        return None
    correlation = _standard(ours).T @ _standard(published) / len(ours)
    _, order = linear_sum_assignment(-correlation.T)  # for each of theirs, which of ours
    return sample.but(ours=sample.ours[..., order])


def linear(sample: Sample) -> Sample | None:
    """Fit an affine map by least squares; end values of a clipped published range count as "this far or further".

    None with fewer vectors to fit than parameters per channel, or without a clip to judge by.
    """
    ours, published = _rows(sample)
    if len(ours) <= ours.shape[1] + 1 or sample.fit.all():
        return None
    low, high = published.min(), published.max()
    clips = min(np.mean(published == low), np.mean(published == high)) > CLIPPED_SHARE
    means = ours.mean(0)
    centred = ours - means
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] += RIDGE * max(np.trace(gram) / len(gram), 1e-30)
    inverse = np.linalg.inv(gram) @ centred.T
    target = published
    for _ in range(CLIP_ROUNDS):
        offset = target.mean(0)
        matrix = inverse @ (target - offset)
        if not clips:
            break
        guess, before = centred @ matrix + offset, target
        target = np.where(published == high, np.maximum(guess, high), np.where(published == low, np.minimum(guess, low), published))
        if np.abs(target - before).max() <= CLIP_CHANGE * published.std():
            break
    mapped = (sample.ours - means) @ matrix + offset
    return sample.but(ours=(np.clip(mapped, low, high) if clips else mapped).astype(np.float32))


def _rows(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Vectors for a fit, ours and published, each (number, D) float64, evenly thinned."""
    chosen = sample.mask & sample.fit[:, None]
    pairs = [values[chosen].reshape(-1, values.shape[-1]) for values in (sample.ours, sample.published)]
    step = -(-len(pairs[0]) // MOST_ROWS) or 1
    return pairs[0][::step].astype(np.float64), pairs[1][::step].astype(np.float64)


def _standard(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(0)
    deviation = centred.std(0)
    return centred / np.where(deviation > 0, deviation, 1)
