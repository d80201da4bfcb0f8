"""The hypothesis that the published features are right but belong to other clips than their ids.

Causes are a header line that shifted every row, or a file order that was the directory's and not the annotations'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.parity.hypotheses import Hypothesis
from pipeline.parity.pairs import Layer, Pairs, Sample, pooled

BLOCK = 512  # clips compared with all others at once


def clip_order(pairs: Pairs, layer: Layer, clips: Sequence[str]) -> Hypothesis | None:
    """Pair each clip with its nearest among ours; None where most clips are nearest to themselves."""
    ours, theirs = _signatures(pairs, layer)
    nearest = np.concatenate([np.argmax(theirs[start : start + BLOCK] @ ours.T, axis=1) for start in range(0, len(theirs), BLOCK)])
    moved = nearest != np.arange(len(nearest))
    if moved.mean() <= 0.5:
        return None
    first = int(np.argmax(moved))
    cause = (
        f"they belong to other clips than their ids, {moved.sum()} of {len(moved)}: the one named {pairs.clips[first]} is nearest to "
        f"our {pairs.clips[nearest[first]]} (a header line that shifted the rows, or a file order that is not the annotations')"
    )
    partner = {clip: pairs.clips[place] for clip, place in zip(pairs.clips, nearest, strict=True)}

    def apply(sample: Sample) -> Sample:
        return pairs.read(layer, clips, [partner[clip] for clip in clips]).but(fit=sample.fit)

    return Hypothesis("clips_moved", cause, "clips", apply)


def _signatures(pairs: Pairs, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Signatures of all clips, ours and published, each (N, D) float32: clip means, standardised by channel, of length 1."""
    means: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for _, sample in pairs.chunks(layer):
        weight = sample.mask[..., None] / np.maximum(sample.mask.sum(1), 1)[:, None, None]
        for values, found in zip((sample.ours, sample.published), means, strict=True):
            found.append((np.nan_to_num(pooled(values), posinf=0, neginf=0) * weight).sum(1))
    return _directions(np.concatenate(means[0])), _directions(np.concatenate(means[1]))


def _directions(means: np.ndarray) -> np.ndarray:
    deviation = means.std(0)
    standard = (means - means.mean(0)) / np.where(deviation > 0, deviation, 1)
    return (standard / np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), 1e-12)).astype(np.float32)
