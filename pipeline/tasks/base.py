"""The interface of a task for training, the report and predictions of files.

It fixes neither the number of table lines per clip nor how the headline is computed: a task may have one line per segment or per event, and
its headline need not be a mean over clips. Shape letters: N clips, T segments, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline.batch import Tensors
    from pipeline.datasets.base import SegmentRule
    from pipeline.metrics.bootstrap import Difference
    from pipeline.tasks.grid import ScoreGrid
    from pipeline.tasks.labels import ClipLabels, ClipSeconds, IndexedEvents, VideoTargets
    from pipeline.tasks.lanes import Lane
    from pipeline.tasks.tracks import TrackName, Tracks


class Task(Protocol):
    """A task: a module, or any object, with these members.

    Registered in :mod:`pipeline.tasks`, where mypy checks it against this protocol.

    HEADLINE: key of the metric that picks a checkpoint and is shown in the table; higher is better.
    SECONDARY: further metrics with a column of their own: metric key -> column head.
    CLIP_SCORE: what :meth:`clip_scores` measures, as the page puts it behind "75 %": right, F1@0.5 ...
    GRID: scores shown in a separate table, by level and rule; None without them.
    has_tracks: whether an answer locates events within a clip. If False, the members from :meth:`tracks` on raise TypeError.
    overlapping_windows: whether a long file is read in windows half a window apart, for :meth:`joined`; if False, they lie end to end.
    COMPARED: columns of :meth:`table` that :meth:`clip_scores` and :meth:`compare` read, beside ``row`` and ``seed``.
    SHOWN: likewise for :meth:`lanes` and :meth:`true_classes`.
    CONFIDENT: likewise for :meth:`confidences`.

    ``lines`` are those of :meth:`table` with a column ``row``, the annotation row, instead of ``clip_number``; the lines of a row keep the
    table's order. Lines of several seeds have the column ``seed``.
    """

    __file__: str | None
    HEADLINE: str
    SECONDARY: Mapping[str, str]
    CLIP_SCORE: str
    GRID: ScoreGrid | None
    COMPARED: tuple[str, ...]
    SHOWN: tuple[str, ...]
    CONFIDENT: tuple[str, ...]
    has_tracks: bool
    overlapping_windows: bool

    def row_targets(
        self, events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
        rule: SegmentRule = "half", seconds: ClipSeconds = None,
    ) -> Tensors:  # fmt: skip
        """Targets of N annotation rows, from their indexed events (modality, label, onset, offset).

        Args:
            clip_labels: the classes of each clip. rule: when an event covers a segment.
            seconds: the length of each clip, for a task whose answers are in seconds; None: all fill their ``segments``.

        Raises:
            InputProblems: labels that are not in ``classes``.
        """

    def video_targets(
        self, events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
        proportions: bool = False, rule: SegmentRule = "half",
    ) -> VideoTargets:  # fmt: skip
        """Weak labels of N annotation rows: their classes without times.

        Raises:
            InputProblems: as in :meth:`row_targets`.
            ValueError: the task has no labels of this kind.
        """

    def decide(self, scores: Any, mask: Tensor) -> Any:
        """Turn a method's scores into answers for N clips: a tensor or Tensors, which can be indexed by clip."""

    def score(self, decided: Any, truth: Any, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
        """All metrics of the task as plain JSON, including HEADLINE and SECONDARY."""

    def prior_scores(self, truth: Any, mask: Tensor, known: Any, known_mask: Tensor) -> dict[str, Any]:
        """Metrics of trivial answers that have learned from the truth of another split (``known``), in the form of :meth:`score`.

        ``trivial`` adds to that of :meth:`score`; ``never``: by answer and track, the numbers of the classes that it never gives.
        Empty for a task without such answers.
        """

    def table(self, scores: Any, decided: Any, truth: Any, mask: Tensor) -> pd.DataFrame:
        """The predictions to store: any number of lines per clip, clip by clip, with the column ``clip_number`` (0..N-1)."""

    def clip_scores(self, lines: pd.DataFrame) -> pd.DataFrame:
        """``score`` (percent, mean over seeds) by annotation row: how well the clip was answered."""

    def compare(self, first: pd.DataFrame, second: pd.DataFrame | None, groups: pd.Series | None = None) -> Difference | None:
        """First minus second in the headline, over the clips scored in both; None without any.

        Args:
            second: None for the headline of first itself, with its interval.
            groups: by annotation row; the interval is by drawing whole groups of clips again. None: clips.
        """

    def confidences(self, lines: pd.DataFrame) -> dict[str, tuple[NDArray, NDArray]]:
        """Probabilities (K,) and their outcomes (K,), by what they predict; empty if CONFIDENT is empty."""

    def attention(self, scores: Any) -> Tensor | None:
        """Weights of spatial positions, (N, T, S); None for a method without spatial attention."""

    def tracks(self, scores: Any, mask: Tensor, classes: Sequence[str], segment_seconds: float = 1.0) -> Tracks:
        """The answer for one clip (N = 1)."""

    def joined(self, windows: Sequence[tuple[float, Any]], window_seconds: float, segment_seconds: float, seconds: float) -> Any:
        """Scores of a file from start and scores of each decoded window, in order; N = 1 in all."""

    def table_tracks(
        self, lines: pd.DataFrame, classes: Sequence[str], segment_seconds: float = 1.0
    ) -> tuple[Tracks, dict[TrackName, NDArray]]:
        """The answer for one clip from its lines, and the truth by track, (T, C) bool."""

    def lanes(self, lines: pd.DataFrame, num_classes: int, segment_seconds: float = 1.0) -> list[Lane]:
        """Truth and answer of one clip as spans."""

    def true_classes(self, lines: pd.DataFrame, num_classes: int) -> list[int]:
        """The true classes of a clip's event segments, one entry per segment and class."""

    def eventful(self, lines: pd.DataFrame) -> pd.Index:
        """Annotation rows with an event that does not fill its clip; all rows if there are none."""
