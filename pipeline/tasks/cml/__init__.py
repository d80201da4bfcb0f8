"""Cross-modality localization (Tian et al., ECCV 2018): given the event's segments in one modality, find them in the other.

A2V gives the audio and searches the visual track, V2A the reverse. As published, the answer has the length of the given window and is right
only if it starts exactly where the event does. A clip poses questions if its event is one unbroken stretch of at least two segments that
does not fill it; other clips are left out of the scores (AVE's 402 test clips of this task all pose questions).
"""

from pipeline.tasks.adjoining import joined, overlapping_windows
from pipeline.tasks.cml.scores import MatchingScores, decide, score, table
from pipeline.tasks.cml.shown import CLIP_SCORE, COMPARED, CONFIDENT, GRID, SECONDARY, SHOWN, clip_scores, compare, confidences, has_tracks
from pipeline.tasks.cml.targets import MatchingTargets, questions, row_targets, video_targets
from pipeline.tasks.uninformed import prior_scores
from pipeline.tasks.untracked import attention, eventful, lanes, table_tracks, tracks, true_classes

HEADLINE = "accuracy"

__all__ = [
    "CLIP_SCORE", "COMPARED", "CONFIDENT", "GRID", "HEADLINE", "SECONDARY", "SHOWN", "MatchingScores", "MatchingTargets", "attention",
    "clip_scores", "compare", "confidences", "decide", "eventful", "has_tracks", "joined", "lanes", "overlapping_windows", "prior_scores",
    "questions", "row_targets", "score", "table", "table_tracks", "tracks", "true_classes", "video_targets",
]  # fmt: skip
