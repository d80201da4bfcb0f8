"""What a task offers to training, to the report and to predictions of files.

Nothing here says how many lines of a table a clip has, or how the headline is made from clips: a task may have a line per segment or per
event, and a headline that is no mean over clips. Shape letters: N clips, T segments, C classes.
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
    from pipeline.tasks.labels import ClipLabels, IndexedEvents, VideoTargets
    from pipeline.tasks.lanes import Lane
    from pipeline.tasks.tracks import TrackName, Tracks


class Task(Protocol):
    """A task: a module, or any object, with these members. Registered in :mod:`pipeline.tasks`, where mypy checks it against this.

    HEADLINE: key of the metric that picks a checkpoint and stands in the table; higher is better.
    SECONDARY: further metrics with a column of their own, by key the column's head.
    GRID: scores with a table of their own, by level and rule; None without them.
    has_tracks: whether an answer says what happens along a clip. Without, the members from :meth:`attention` on refuse.
    COMPARED, SHOWN, CONFIDENT: columns of :meth:`table` that :meth:`clip_scores` and :meth:`compare`, that :meth:`lanes` and
        :meth:`true_classes`, and that :meth:`confidences` read beside ``row`` and ``seed``.

    Lines are those of :meth:`table` with a column ``row``, the annotation row, in place of ``clip_number``; the lines of a row stand in the
    table's order. Lines of several seeds have the column ``seed``.
    """

    __file__: str | None
    HEADLINE: str
    SECONDARY: Mapping[str, str]
    GRID: ScoreGrid | None
    COMPARED: tuple[str, ...]
    SHOWN: tuple[str, ...]
    CONFIDENT: tuple[str, ...]
    has_tracks: bool

    def row_targets(
        self, events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
        rule: SegmentRule = "half",
    ) -> Tensors:  # fmt: skip
        """The truth of N annotation rows, from their indexed events (modality, label, onset, offset).

        Raises:
            InputProblems: labels that are not in ``classes``.
        """

    def video_targets(
        self, events: IndexedEvents, classes: Sequence[str], segments: int, segment_seconds: float, clip_labels: ClipLabels = None,
        proportions: bool = False, rule: SegmentRule = "half",
    ) -> VideoTargets:  # fmt: skip
        """The weak labels of N annotation rows: classes, and no time.

        Raises:
            InputProblems: as :meth:`row_targets`.
            ValueError: labels of a kind that the task does not have.
        """

    def decide(self, scores: Any, mask: Tensor) -> Any:
        """A method's scores -> the answers for N clips: a tensor, or Tensors, so that it can be indexed by clips."""

    def score(self, decided: Any, truth: Any, mask: Tensor, num_classes: int, segment_seconds: float) -> dict[str, Any]:
        """Every number of the task as plain JSON, HEADLINE and SECONDARY among them."""

    def table(self, scores: Any, decided: Any, truth: Any, mask: Tensor) -> pd.DataFrame:
        """The predictions as they are stored: any number of lines a clip, clip by clip, ``clip_number`` (0..N-1) saying of which."""

    def clip_scores(self, lines: pd.DataFrame) -> pd.DataFrame:
        """``score`` (percent, mean over seeds) of every annotation row: how well the clip was answered."""

    def compare(self, first: pd.DataFrame, second: pd.DataFrame) -> Difference | None:
        """First minus second in the headline, over the clips that both have scored; None without any."""

    def confidences(self, lines: pd.DataFrame) -> dict[str, tuple[NDArray, NDArray]]:
        """Probabilities (K,) and whether each came true (K,), by what they say; none where CONFIDENT is empty."""

    def attention(self, scores: Any) -> Tensor | None:
        """(N, T, S), the weights of spatial positions; None of a method without."""

    def tracks(self, scores: Any, mask: Tensor, classes: Sequence[str]) -> Tracks:
        """The answer for one clip (N = 1)."""

    def table_tracks(self, lines: pd.DataFrame, classes: Sequence[str]) -> tuple[Tracks, dict[TrackName, NDArray]]:
        """The answer for one clip from its lines, and the truth by track, (T, C) bool."""

    def lanes(self, lines: pd.DataFrame, num_classes: int) -> list[Lane]:
        """Truth and answer of one clip as spans."""

    def true_classes(self, lines: pd.DataFrame, num_classes: int) -> list[int]:
        """The true class of every event segment of a clip, as often as there are several."""

    def eventful(self, lines: pd.DataFrame) -> pd.Index:
        """Annotation rows in which something changes: an event that does not fill its clip. All rows where there is none."""
