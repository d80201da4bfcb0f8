"""Audio-visual event localization: one event class, or background, for every segment of a clip."""

from pipeline.tasks.avel.scores import Scores, clip_scores, decide, evaluate, score, table
from pipeline.tasks.avel.shown import table_tracks, tracks
from pipeline.tasks.avel.targets import AvelTargets, row_targets, targets_of_events, video_targets

HEADLINE = "accuracy"

__all__ = [
    "HEADLINE", "AvelTargets", "Scores", "clip_scores", "decide", "evaluate", "row_targets", "score", "table", "table_tracks",
    "targets_of_events", "tracks", "video_targets",
]  # fmt: skip
