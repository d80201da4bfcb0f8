"""Cross-modality localization (Tian et al., ECCV 2018): the event's segments of one modality are given, find them in the other.

A2V gives the sound and searches the picture, V2A the reverse. As published, the answer has the length of the question, and counts only
if it starts exactly where the event does. A clip asks if its event is one unbroken run of at least two segments that does not fill it;
all others of a split are left out of the scores (AVE's 402 test clips of this task all ask).
"""

from pipeline.tasks.cml.scores import MatchingScores, clip_scores, decide, score, table
from pipeline.tasks.cml.targets import MatchingTargets, questions, row_targets

HEADLINE = "accuracy"

__all__ = ["HEADLINE", "MatchingScores", "MatchingTargets", "clip_scores", "decide", "questions", "row_targets", "score", "table"]
