"""Audio-visual video parsing: which classes are audible and which are visible in every segment of a clip.

Learned from the labels of whole clips, which do not tell audio from visual events (Tian, Li, Xu, ECCV 2020).
"""

from pipeline.tasks.adjoining import joined, overlapping_windows
from pipeline.tasks.avvp.priors import prior_scores
from pipeline.tasks.avvp.scores import HEADLINE, ParsingScores, decide, score, table

from pipeline.tasks.avvp.shown import (  # isort: skip
    CLIP_SCORE, COMPARED, CONFIDENT, GRID, SECONDARY, SHOWN, attention, clip_scores, compare, confidences, eventful, has_tracks, lanes,
    table_tracks, tracks, true_classes,
)  # fmt: skip
from pipeline.tasks.avvp.targets import MODALITIES, ParsingTargets, row_targets, video_targets

__all__ = [
    "CLIP_SCORE", "COMPARED", "CONFIDENT", "GRID", "HEADLINE", "MODALITIES", "SECONDARY", "SHOWN", "ParsingScores", "ParsingTargets",
    "attention", "clip_scores", "compare", "confidences", "decide", "eventful", "has_tracks", "joined", "lanes", "overlapping_windows",
    "prior_scores", "row_targets", "score", "table", "table_tracks", "tracks", "true_classes", "video_targets",
]  # fmt: skip
