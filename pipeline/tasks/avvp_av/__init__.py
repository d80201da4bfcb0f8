"""Video parsing where only events that are heard and seen are labelled: scored by segments and as detections.

For data sets of untrimmed videos, such as UnAV-100, where CoLeaF (ECCV 2024) reports an F-score. It is learned from clip labels. What is
heard alone or seen alone has no labels, so of parsing's scores only ``AV`` exists. Beside them stand the mean average precision of the
same answers as spans, and those of trivial answers.
"""

from pipeline.tasks.adjoining import joined, overlapping_windows
from pipeline.tasks.avvp.shown import COMPARED, CONFIDENT, SHOWN, attention, confidences, eventful, has_tracks
from pipeline.tasks.avvp.targets import video_targets
from pipeline.tasks.avvp_av.scores import HEADLINE, JointAnswers, decide, prior_scores, score, table
from pipeline.tasks.avvp_av.shown import CLIP_SCORE, GRID, SECONDARY, clip_scores, compare, lanes, table_tracks, tracks, true_classes
from pipeline.tasks.avvp_av.targets import JointTargets, row_targets

__all__ = [
    "CLIP_SCORE", "COMPARED", "CONFIDENT", "GRID", "HEADLINE", "SECONDARY", "SHOWN", "JointAnswers", "JointTargets", "attention",
    "clip_scores", "compare", "confidences", "decide", "eventful", "has_tracks", "joined", "lanes", "overlapping_windows",
    "prior_scores", "row_targets", "score", "table", "table_tracks", "tracks", "true_classes", "video_targets",
]  # fmt: skip
