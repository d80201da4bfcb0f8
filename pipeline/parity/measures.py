"""Measure the distance of two arrays of features per segment: cosine and relative error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.parity.pairs import Layer, Pairs, Sample

COSINE_EDGES = np.array([-1, -0.5, 0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 1 + 1e-6])
ERROR_EDGES = np.array([0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 5, np.inf])


def measure(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and relative error |ours - published| / |published|, both (N, T) float64; NaN where a segment does not count.

    Two zero vectors are equal (1, 0); a single zero vector has cosine 0 and, if it is the published one, an infinite error.
    """
    ours, published = (_flat(values, sample.mask) for values in (sample.ours, sample.published))
    product, square, other = (_dot(a, b) for a, b in ((ours, published), (ours, ours), (published, published)))
    distance = np.sqrt(_dot(difference := ours - published, difference))
    one, both = (square == 0) | (other == 0), (square == 0) & (other == 0)
    cosine = np.where(both, 1.0, np.where(one, 0.0, product / np.sqrt(np.where(one, 1.0, square * other))))
    error = np.where(both, 0.0, np.where(other == 0, np.inf, distance / np.sqrt(np.where(other == 0, 1.0, other))))
    return np.where(sample.mask, np.clip(cosine, -1, 1), np.nan), np.where(sample.mask, error, np.nan)


def _flat(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Flatten to (N, T, all of a segment), with zeros in segments that do not count."""
    flat = values.reshape(*mask.shape, -1)
    return flat if mask.all() else np.where(mask[..., None], flat, 0)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ntd,ntd->nt", a, b, dtype=np.float64)


@dataclass(frozen=True)
class LayerMeasures:
    """Measures of one layer over all clips: cosine and error are (N, T), NaN where a segment does not count."""

    layer: Layer
    clips: list[str]
    cosine: np.ndarray
    error: np.ndarray

    @property
    def counted(self) -> int:
        return int(np.isfinite(self.cosine).sum())

    def summary(self) -> dict[str, float | int | dict[str, float]]:
        """Quantiles over all segments, as plain JSON."""
        return {
            "segments": self.counted,
            "left_out": int(np.isnan(self.cosine).sum()),
            "cosine": _quantiles(self.cosine),
            "relative_error": _quantiles(self.error),
        }

    def histograms(self) -> Iterator[dict[str, str | float | int]]:
        for name, values, edges in (("cosine", self.cosine, COSINE_EDGES), ("relative_error", self.error, ERROR_EDGES)):
            known = values[~np.isnan(values)]
            counts = np.histogram(np.minimum(known, 1e300), edges)[0]
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
                yield {"layer": self.layer.name, "measure": name, "low": float(low), "high": float(high), "count": int(count)}

    def by_segment(self) -> pd.DataFrame:
        """Medians per position in the clip: an error that grows along the clip is a drift in time."""
        return self._table("segment", list(range(self.cosine.shape[1])), self.cosine.T, self.error.T)

    def by_clip(self) -> pd.DataFrame:
        return self._table("clip", self.clips, self.cosine, self.error)

    def worst(self, count: int = 3) -> list[str]:
        table = self.by_clip().dropna().sort_values("relative_error", ascending=False, kind="stable")
        return list(table["clip"].head(count))

    def _table(self, name: str, keys: list, cosine: np.ndarray, error: np.ndarray) -> pd.DataFrame:
        medians = {"cosine": [_median(row) for row in cosine], "relative_error": [_median(row) for row in error]}
        return pd.DataFrame({"layer": self.layer.name, name: keys, **medians})


def measure_layer(pairs: Pairs, layer: Layer) -> LayerMeasures:
    """Measure all clips of a layer, a few at a time."""
    measured = [(clips, *measure(sample)) for clips, sample in pairs.chunks(layer)]
    clips = [clip for part, _, _ in measured for clip in part]
    return LayerMeasures(layer, clips, *(np.concatenate([part[place] for part in measured]) for place in (1, 2)))


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _quantiles(values: np.ndarray) -> dict[str, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    places = {"p05": 0.05, "median": 0.5, "p95": 0.95}
    with np.errstate(invalid="ignore"):
        found = {name: float(np.quantile(known, place, method="nearest")) for name, place in places.items()}
    return {**found, "mean": float(known.mean())}
