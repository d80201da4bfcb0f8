"""Verdicts: the attempts, the difference each leaves, and which of them is named as the cause.

A cause is named only if undoing it reduces the difference to :data:`SAME`, or to a quarter. A hypothesis with fitted parameters (which
fit anything a little) must also explain nearly all variation of the published features from segment to segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

SAME = 0.005  # median relative error up to which features are the same: float16 rounds by 0.0003, another decoder moves a grey level
SHARE = 0.25  # largest share of the difference that may remain
VARIATION = 0.1  # largest share of the published features' variation that a fit may leave
NEAR = 1.5  # up to this many times the least error, hypotheses explain equally well, and the simplest is named
EXACT = 1e-3

Kind = Literal["same", "explained", "unknown", "not comparable"]


@dataclass(frozen=True)
class Tried:
    """One attempt to explain a difference.

    before, error: median relative errors without and with it, on the clips that judge it.
    cosine: median with it.
    freedom: how much was fitted to the numbers, see :class:`~pipeline.parity.hypotheses.Hypothesis`.
    variation: for a fit: the error left, as a share of the segments' distance from the published mean.
    """

    names: tuple[str, ...]
    causes: tuple[str, ...]
    before: float
    error: float
    cosine: float
    freedom: int = 0
    variation: float | None = None

    @property
    def explains(self) -> bool:
        if not self.before > SAME or (self.variation is not None and not self.variation <= VARIATION):
            return False
        return self.error <= max(SAME, SHARE * self.before)

    @property
    def left(self) -> float:
        """Share of the difference that remains."""
        return self.error / self.before if 0 < self.before < np.inf else 1.0


def choose(tried: Sequence[Tried]) -> Tried | None:
    """Among the best explanations, the one with the least fitted freedom, then the fewest parts.

    If nothing explains the difference, the attempt that comes nearest.
    """
    explaining = [each for each in tried if each.explains]
    if not explaining:
        return ranked(tried)[0] if tried else None
    least = min(each.error for each in explaining)
    good = [each for each in explaining if each.error <= max(SAME, NEAR * least)]
    return min(good, key=lambda each: (each.freedom, len(each.names), each.error))


def ranked(tried: Sequence[Tried]) -> list[Tried]:
    return sorted(tried, key=lambda each: (each.left, len(each.names)))


@dataclass(frozen=True)
class Verdict:
    """The verdict on one layer.

    before: median relative error over the clips examined.
    best: the attempt named as the cause, or the nearest one.
    tried, not_tried: all attempts, and reasons for those left out.
    """

    layer: str
    kind: Kind
    before: float = float("nan")
    best: Tried | None = None
    tried: list[Tried] = field(default_factory=list)
    not_tried: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the hypotheses that explain the difference; empty where none does."""
        return self.best.names if self.best and self.kind == "explained" else ()

    @property
    def as_well(self) -> list[Tried]:
        """Attempts that explain the difference equally well with as few parts, indistinguishable on these clips."""
        if not (best := self.best if self.kind == "explained" else None):
            return []
        limit = max(EXACT, NEAR * best.error)
        alike = [each for each in self.tried if each.explains and each.error <= limit and _rank(each) == _rank(best)]
        return [each for each in alike if set(each.names) != set(best.names)]

    def sentence(self) -> str:
        """Describe the verdict in one line."""
        if self.kind == "not comparable":
            return f"{self.layer}: not comparable; {'; '.join(self.not_tried)}"
        if self.kind == "same":
            return f"{self.layer}: the same (median relative error {self.before:.2g})"
        head = f"{self.layer}: different, median relative error {self.before:.2g}; "
        if self.best is None:
            return f"{head}cause unknown"
        parts = " + ".join(self.best.names)
        if self.kind == "unknown":
            return f"{head}cause unknown; the nearest of {len(self.tried)} attempts, {parts}, leaves {self.best.error:.2g}"
        others = ", ".join(" + ".join(each.names) for each in self.as_well)
        doubt = f" (explained equally well by {others}: these clips do not decide)" if others else ""
        return f"{head}likely cause: {'; and '.join(self.best.causes)}{doubt}. With that undone {self.best.error:.2g} remains"

    def as_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "verdict": self.kind,
            "causes": list(self.best.causes) if self.best and self.kind == "explained" else [],
            "hypotheses": list(self.names),
            "as_well": [list(each.names) for each in self.as_well],
            "before": self.before,
            "remaining": self.best.error if self.best else self.before,
            "tried": [
                {"names": list(each.names), "before": each.before, "error": each.error, "cosine": each.cosine, "variation": each.variation}
                for each in ranked(self.tried)
            ],
            "not_tried": self.not_tried,
        }


def _rank(tried: Tried) -> tuple[int, int]:
    return tried.freedom, len(tried.names)
