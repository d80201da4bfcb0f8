"""Try hypotheses on the numbers of two stores: alone, then the best of them together with others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.parity.hypotheses import Hypothesis, fitted_hypotheses
from pipeline.parity.measures import measure
from pipeline.parity.pairs import Sample
from pipeline.parity.verdict import Tried

BEST = 3  # hypotheses tried together with others


def judge(sample: Sample, everything: bool = False) -> tuple[float, float]:
    """Median relative error and median cosine over valid segments; NaN without any.

    Args:
        everything: include the clips used for fitting.
    """
    mask = sample.mask if everything or sample.fit.all() else sample.mask & ~sample.fit[:, None]
    cosine, error = measure(sample.but(mask=mask))
    known = ~np.isnan(error)
    if not known.any():
        return np.nan, np.nan
    return float(np.quantile(error[known], 0.5, method="nearest")), float(np.median(cosine[known]))


def try_on_numbers(sample: Sample, simple: Sequence[Hypothesis]) -> list[Tried]:
    """Try every hypothesis alone; if no simple one is enough, combine the best simple ones with every other."""
    before, _ = judge(sample)
    every = [*simple, *fitted_hypotheses()]
    alone = [(hypothesis, changed, attempt((hypothesis,), changed, before)) for hypothesis, changed in applied(every, sample)]
    found = [each for _, _, each in alone]
    if any(each.explains and not each.freedom for each in found):
        return found
    for first, changed, _ in sorted((entry for entry in alone if not entry[0].freedom), key=lambda entry: entry[2].error)[:BEST]:
        others = [hypothesis for hypothesis in every if hypothesis.factor != first.factor]
        found += [attempt((first, second), twice, before) for second, twice in applied(others, changed)]
    return found


def applied(hypotheses: Sequence[Hypothesis], sample: Sample) -> Iterator[tuple[Hypothesis, Sample]]:
    """Yield each hypothesis that applies, with the changed sample."""
    for hypothesis in hypotheses:
        changed = hypothesis.apply(sample)
        if changed is not None and not np.isnan(judge(changed)[0]):
            yield hypothesis, changed


def attempt(hypotheses: Sequence[Hypothesis], changed: Sample, before: float) -> Tried:
    """Judge how well hypotheses, already applied, explain the difference."""
    error, cosine = judge(changed)
    names, causes = tuple(each.name for each in hypotheses), tuple(each.cause for each in hypotheses)
    freedom = max(each.freedom for each in hypotheses)
    return Tried(names, causes, before, error, cosine, freedom, _variation(changed) if freedom else None)


def _variation(sample: Sample) -> float:
    """Error left by a fit as a share of the published variation: |ours - published| / |published - its mean|.

    Both are medians over segments not used for fitting. A fit that only learned the mean gives 1, however large the mean.
    """
    seen, judged = sample.mask & sample.fit[:, None], sample.mask & ~sample.fit[:, None]
    if not seen.any() or not judged.any():
        return np.inf
    published = sample.published[judged].reshape(int(judged.sum()), -1)
    mean = sample.published[seen].reshape(int(seen.sum()), -1).mean(0, dtype=np.float64)
    away = float(np.median(np.linalg.norm(published - mean, axis=1)))
    left = float(np.median(np.linalg.norm(sample.ours[judged].reshape(published.shape) - published, axis=1)))
    return left / away if away else np.inf
