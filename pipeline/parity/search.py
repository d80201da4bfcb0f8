"""Search for the likely cause of a difference: first on the numbers alone, then by encoding clips again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from pipeline.errors import PipelineError
from pipeline.parity.changes import NO_CHANGE, Change
from pipeline.parity.hypotheses import simple_hypotheses
from pipeline.parity.numbers import BEST, applied, attempt, judge, try_on_numbers
from pipeline.parity.order import clip_order
from pipeline.parity.pairs import Layer, Pairs, pooled
from pipeline.parity.verdict import SAME, Tried, Verdict, choose, ranked

SAMPLE_BYTES = 24 * 2**20  # of one array of the sample on which hypotheses are tried
INPUTS = "frame order, sampling, sizes, settings of the encoder"


class Encodes(Protocol):
    """The interface of :class:`pipeline.parity.inputs.Reencoder`."""

    def choose(self, clips: Sequence[str]) -> list[str]: ...

    def changes(self, modality: str) -> list[Change]: ...

    def encode(self, modality: str, clips: Sequence[str], change: Change) -> np.ndarray: ...


def explain(pairs: Pairs, layer: Layer, encoder: Encodes | None, why_no_encoder: str = "") -> Verdict:
    """Explain the difference in one layer.

    Args:
        encoder: encodes our clips again; None: only the numbers are used.
        why_no_encoder: given in the verdict where an encoder would have been needed.
    """
    if layer.problem:
        return Verdict(layer.name, "not comparable", not_tried=[layer.problem])
    clips, sample = pairs.sample(layer, SAMPLE_BYTES)
    before, _ = judge(sample, everything=True)
    if np.isnan(before):
        return Verdict(layer.name, "not comparable", not_tried=["no segment of it counts in both stores"])
    if before <= SAME:
        return Verdict(layer.name, "same", before)
    simple = [*simple_hypotheses(sample.ours.shape[2:], sample.mask.shape[1])]
    if moved := clip_order(pairs, layer, clips):
        simple.append(moved)
    tried, not_tried = try_on_numbers(sample, simple), []
    if not any(each.explains for each in tried):
        if encoder is None:
            not_tried.append(f"{INPUTS}: {why_no_encoder or 'no clips to encode again'}")
        else:
            tried += _try_on_inputs(pairs, layer, encoder, not_tried)
    best = choose(tried)
    return Verdict(layer.name, "explained" if best and best.explains else "unknown", before, best, tried, not_tried)


def _try_on_inputs(pairs: Pairs, layer: Layer, encoder: Encodes, not_tried: list[str]) -> list[Tried]:
    """Encode a few clips again under every change; if none is enough, under the best ones combined with every other."""
    try:
        attempts = _Attempts(pairs, layer, encoder)
    except PipelineError as error:
        not_tried.append(f"{INPUTS}: {' '.join(str(error).split())}")
        return []
    singles = {change.name: change for change in encoder.changes(layer.modality)}
    found = [each for change in singles.values() if (each := attempts.one(change, not_tried))]
    if any(each.explains for each in found):
        return found
    for best in ranked(found)[: BEST - 1]:
        first = singles[best.names[0]]
        found += [each for second in singles.values() if second.factor != first.factor and (each := attempts.two(first, second))]
        found += attempts.with_numbers(first)
    return found


class _WrongShape(PipelineError):
    """A change gives features of another shape than those to be explained: not a candidate."""


class _Attempts:
    """Attempts that encode a few clips under a change and compare the result with the published features.

    Raises:
        PipelineError: no clip can be encoded, or encoding without a change does not reproduce our store.
    """

    def __init__(self, pairs: Pairs, layer: Layer, encoder: Encodes) -> None:
        self.layer, self.encoder = layer, encoder
        self.clips = encoder.choose(pairs.clips)
        if not self.clips:
            raise PipelineError("none of the clips in both stores has a file here")
        self.sample = replace(pairs.read(layer, self.clips), fit=np.zeros(len(self.clips), bool))
        self.before, _ = judge(self.sample)
        control, _ = judge(self.sample.but(ours=self._encoded(NO_CHANGE), published=self.sample.ours))
        if not control <= SAME:
            made = f"today's params.yaml and weights do not reproduce our store for {', '.join(self.clips)}"
            raise PipelineError(f"{made} (median relative error {control:.2g})")

    def one(self, change: Change, not_tried: list[str]) -> Tried | None:
        try:
            return self._judged((change,), change)
        except _WrongShape:
            return None
        except PipelineError as problem:
            not_tried.append(f"{change.name}: {' '.join(str(problem).split())}")
            return None

    def two(self, first: Change, second: Change) -> Tried | None:
        try:
            return self._judged((first, second), first | second)
        except PipelineError:  # reported when it was tried alone, or an impossible pair
            return None

    def with_numbers(self, change: Change) -> list[Tried]:
        """Try a change together with every simple hypothesis on its numbers."""
        changed = self.sample.but(ours=self._encoded(change))
        simple = list(simple_hypotheses(changed.ours.shape[2:], changed.mask.shape[1]))
        found = [attempt((hypothesis,), twice, self.before) for hypothesis, twice in applied(simple, changed)]
        return [replace(each, names=(change.name, *each.names), causes=(change.cause, *each.causes)) for each in found]

    def _judged(self, parts: tuple[Change, ...], change: Change) -> Tried:
        error, cosine = judge(self.sample.but(ours=self._encoded(change)))
        return Tried(tuple(part.name for part in parts), tuple(part.cause for part in parts), self.before, error, cosine)

    def _encoded(self, change: Change) -> np.ndarray:
        values = self.encoder.encode(self.layer.modality, self.clips, change)
        values = pooled(values) if self.layer.pooled else values
        if values.shape != self.sample.ours.shape:
            raise _WrongShape(f"gives {values.shape[2:]} for a segment, not {self.sample.ours.shape[2:]}")
        return values
