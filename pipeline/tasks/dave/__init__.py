"""Dense audio-visual event localization in untrimmed videos: any number of events, as spans in seconds that may overlap.

Geng et al., "Dense-Localizing Audio-Visual Events in Untrimmed Videos: A Large-Scale Benchmark and Baseline", CVPR 2023 (UnAV-100).
A method answers with at most 100 detections of a clip. The headline is the mean average precision at overlaps of 0.1 to 0.9.
"""

from pipeline.tasks.dave.joining import joined, overlapping_windows
from pipeline.tasks.dave.scores import DetectionScores, calibrated, decide, score, table

from pipeline.tasks.dave.shown import (  # isort: skip
    CLIP_SCORE, COMPARED, CONFIDENT, GRID, SECONDARY, SHOWN, attention, clip_scores, compare, confidences, eventful, has_tracks, lanes,
    table_tracks, tracks, true_classes,
)  # fmt: skip
from pipeline.tasks.dave.targets import EventTargets, row_targets, video_targets
from pipeline.tasks.uninformed import prior_scores

HEADLINE = "mAP"

__all__ = [
    "CLIP_SCORE", "COMPARED", "CONFIDENT", "GRID", "HEADLINE", "SECONDARY", "SHOWN", "DetectionScores", "EventTargets", "attention",
    "calibrated", "clip_scores", "compare", "confidences", "decide", "eventful", "has_tracks", "joined", "lanes", "overlapping_windows",
    "prior_scores", "row_targets", "score", "table", "table_tracks", "tracks", "true_classes", "video_targets",
]  # fmt: skip
