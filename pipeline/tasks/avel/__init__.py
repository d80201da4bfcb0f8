"""Audio-visual event localization: one event class, or background, for every segment of a clip."""

from pipeline.tasks.adjoining import joined, overlapping_windows
from pipeline.tasks.avel.scores import Scores, decide, evaluate, score, table

from pipeline.tasks.avel.shown import (  # isort: skip
    CLIP_SCORE, COMPARED, CONFIDENT, GRID, SECONDARY, SHOWN, attention, clip_scores, compare, confidences, eventful, has_tracks, lanes,
    table_tracks, tracks, true_classes,
)  # fmt: skip
from pipeline.tasks.avel.targets import AvelTargets, row_targets, targets_of_events, video_targets
from pipeline.tasks.uninformed import prior_scores

HEADLINE = "accuracy"

__all__ = [
    "CLIP_SCORE", "COMPARED", "CONFIDENT", "GRID", "HEADLINE", "SECONDARY", "SHOWN", "AvelTargets", "Scores", "attention",
    "clip_scores", "compare", "confidences", "decide", "evaluate", "eventful", "has_tracks", "joined", "lanes", "overlapping_windows",
    "prior_scores", "row_targets", "score", "table", "table_tracks", "targets_of_events", "tracks", "true_classes", "video_targets",
]  # fmt: skip
