"""AVSDN-style parsing: encoders of both modalities whose final states start a decoder, with three heads. Re-imagined, not reproduced.

After Lin, Li, Wang, "Dual-modality Seq2Seq Network for Audio-visual Event Localization", ICASSP 2019, in the form in which CPSP's authors
re-implemented it. CoLeaF's Table 5 prints for "AVSDN" on LLP, segment level: A 47.8, V 52.0, AV 37.1, Type@AV 45.7, Event@AV 50.8; event
level: 34.1, 46.3, 26.5, 35.6, 37.7. How that network was made is not public (:mod:`pipeline.methods.recurrent_parsing.three_heads`).

A BiLSTM each reads the audio and the attended frames; their final hidden states, and likewise their cells, pass a ReLU and are fused by a
dual multimodal residual block each, direction by direction; with these a decoder BiLSTM starts, which reads audio and frames side by side.
Ours: motion beside the frames; a head on each encoder and one on the decoder's output after a ReLU; losses and decision as in
:mod:`pipeline.methods.recurrent_parsing.avel_parsing`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.layers.dual_multimodal_residual import DualMultimodalResidual
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.methods.base import METHODS
from pipeline.methods.recurrent_parsing.three_heads import Encoded, ThreeHeadConfig, ThreeHeadMethod


@METHODS.register("avsdn_parsing")
class AvsdnParsing(ThreeHeadMethod):
    """Two encoders, a decoder and three heads.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 7,214,035.
    """

    Config = ThreeHeadConfig

    def __init__(
        self, config: ThreeHeadConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        width = 2 * config.recurrent_width
        self.audio_encoder, self.visual_encoder = SegmentLSTM(self.audio_shape[0], width), SegmentLSTM(self.attended_width, width)
        self.hidden_fusion, self.cell_fusion = (DualMultimodalResidual(config.recurrent_width) for _ in range(2))
        self.decoder = SegmentLSTM(self.audio_shape[0] + self.attended_width, width)
        self.audio_head, self.visual_head, self.both_head = self.head(width), self.head(width), self.head(width)

    def encoded(self, frames: Tensor, audio: Tensor, motion: Tensor | None, lengths: Tensor | None) -> Encoded:
        attended = self.attended(frames, audio, motion)
        heard, (audio_hidden, audio_cell) = self.audio_encoder.run(audio, lengths)
        seen, (visual_hidden, visual_cell) = self.visual_encoder.run(attended, lengths)
        start = (
            self.hidden_fusion(torch.relu(audio_hidden), torch.relu(visual_hidden)),
            self.cell_fusion(torch.relu(audio_cell), torch.relu(visual_cell)),
        )
        decoded, _ = self.decoder.run(torch.cat([audio, attended], dim=-1), lengths, start)
        return Encoded(heard, seen, torch.relu(decoded))
