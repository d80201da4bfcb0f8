"""Targets of parsing with audio-visual events alone: by segment and as spans.

Shape letters: N clips, T segments, C classes, E events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pipeline.batch import Tensors
from pipeline.datasets.base import SegmentRule
from pipeline.tasks import avvp, dave
from pipeline.tasks.dave import EventTargets
from pipeline.tasks.labels import ClipLabels, ClipSeconds, IndexedEvents


@dataclass
class JointTargets(Tensors):
    """The truth of audio-visual events.

    segments: (B, T, C), bool; where a class is heard and seen.
    labels: (B, C), bool; the clips' weak labels.
    spans, event_labels, seconds: as in :class:`pipeline.tasks.dave.EventTargets`.
    """

    segments: Tensor
    labels: Tensor
    spans: Tensor
    event_labels: Tensor
    seconds: Tensor

    @property
    def events(self) -> EventTargets:
        return EventTargets(self.spans, self.event_labels, self.seconds)


def row_targets(
    events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
    rule: SegmentRule = "half", seconds: ClipSeconds = None,
) -> JointTargets:  # fmt: skip
    """Targets of N annotation rows from their indexed events.

    A class is in a segment if its events cover it, by the rule, both in audio and in visual; the spans are those of the ``av`` events.

    Args:
        clip_labels: weak labels of the annotation rows; None: those of their events.
        seconds: length of each clip; None: all fill their ``segments``.

    Raises:
        InputProblems: labels that are not in ``classes``.
    """
    given = (events, classes, segments, segment_seconds, clip_labels, rule, seconds)
    parsed, spans = avvp.row_targets(*given), dave.row_targets(*given)
    return JointTargets(parsed.audio & parsed.visual, parsed.labels, spans.spans, spans.labels, spans.seconds)
