"""Audio-visual video parsing: for every segment of a clip, which classes are audible and which are visible, each on its own.

Learned from the labels of whole clips, which do not say whether a class is audio, visual or both (Tian, Li, Xu, ECCV 2020).
"""

from pipeline.tasks.avvp.scores import HEADLINE, ParsingScores, all_clip_scores, clip_scores, decide, score, switched_on, table
from pipeline.tasks.avvp.shown import table_tracks, tracks
from pipeline.tasks.avvp.targets import MODALITIES, ParsingTargets, row_targets, video_targets

__all__ = [
    "HEADLINE", "MODALITIES", "ParsingScores", "ParsingTargets", "all_clip_scores", "clip_scores", "decide", "row_targets", "score",
    "switched_on", "table", "table_tracks", "tracks", "video_targets",
]  # fmt: skip
