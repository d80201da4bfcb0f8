"""AVE-style parsing: AVEL's network of one BiLSTM per modality, with three heads. Re-imagined, not reproduced.

After Tian, Shi, Li, Duan, Xu, "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018. CoLeaF's Table 5 prints for "AVE" on
LLP, segment level: A 47.2, V 37.1, AV 35.4, Type@AV 39.9, Event@AV 41.6; event level: 40.4, 34.7, 31.6, 35.5, 36.5. How that network was
made is not public (:mod:`pipeline.methods.recurrent_parsing.three_heads`).

Ours: LLP's features have no maps, so the audio guides the attention over a segment's frames (of other feature sets, the map's positions);
the motion stands beside what it pools. A head each on the audio BiLSTM, the visual BiLSTM and both; cross-entropy of the three clip
probabilities, which are means over time; a class is active where its modality says so and the clip's probability of both does. Another
reading, not built, is HAN's attentive pooling with one classifier per modality.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.layers.recurrent import SegmentLSTM
from pipeline.methods.base import METHODS
from pipeline.methods.recurrent_parsing.three_heads import Encoded, ThreeHeadConfig, ThreeHeadMethod


@METHODS.register("avel_parsing")
class AvelParsing(ThreeHeadMethod):
    """One BiLSTM per modality and three heads.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 4,212,691.
    """

    Config = ThreeHeadConfig

    def __init__(
        self, config: ThreeHeadConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        width = 2 * config.recurrent_width
        self.audio_lstm, self.visual_lstm = SegmentLSTM(self.audio_shape[0], width), SegmentLSTM(self.attended_width, width)
        self.audio_head, self.visual_head, self.both_head = self.head(width), self.head(width), self.head(2 * width)

    def encoded(self, frames: Tensor, audio: Tensor, motion: Tensor | None, lengths: Tensor | None) -> Encoded:
        heard, seen = self.audio_lstm(audio, lengths), self.visual_lstm(self.attended(frames, audio, motion), lengths)
        return Encoded(heard, seen, torch.cat([heard, seen], dim=-1))
