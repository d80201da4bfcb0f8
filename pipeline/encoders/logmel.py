"""Log-mel statistics: an audio encoder without weights, for the demo, for tests and as a baseline."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.encoders.base import ENCODERS, AudioEncoder, EncoderConfig
from pipeline.encoders.frontends import MEL_BANDS, VGGISH_RATE, VGGISH_WINDOW, vggish_frames
from pipeline.encoders.waveform import RESAMPLER, cut, resample, segment_starts


class LogMelConfig(EncoderConfig):
    """Nothing to set."""


@ENCODERS.register("logmel")
class LogMel(AudioEncoder):
    """Mean and standard deviation of each of VGGish's 64 log-mel bands over the frames inside the segment: (128,).

    The first 64 values are the means, the other 64 the (population) standard deviations. A 1 s segment has 98 frames.
    """

    name = "logmel"
    Config = LogMelConfig
    output_shape = (2 * MEL_BANDS,)

    def transform(self) -> dict[str, Any]:
        return {"sample_rate": VGGISH_RATE, "resampler": RESAMPLER, "front_end": "vggish", "log_offset": 0.01}

    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """(L,) -> (T, F, 64) log-mel frames."""
        length = max(VGGISH_WINDOW, round(segment_seconds * VGGISH_RATE))
        starts = segment_starts(segments, segment_seconds, VGGISH_RATE)
        return vggish_frames(cut(resample(waveform, sample_rate, VGGISH_RATE), starts, length))

    def encode(self, batch: Tensor) -> Tensor:
        """(N, F, 64) -> (N, 128)."""
        return torch.cat([batch.mean(dim=1), batch.std(dim=1, correction=0)], dim=1)
