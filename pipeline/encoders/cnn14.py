"""Cnn14 of PANNs (Kong et al., TASLP 2020), 81.8 M parameters: 2048-d embedding of a segment, as CACE-Net uses it.

Layer names are those of the published ``Cnn14_mAP=0.431.pth``. That file could not be downloaded here: the network was checked for
names, shapes, parameter count and its definition, with random weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.encoders import weights
from pipeline.encoders.base import ENCODERS, AudioEncoder, PretrainedConfig
from pipeline.encoders.frontends import CNN14_RATE, MEL_BANDS, cnn14_logmel
from pipeline.encoders.known_weights import KNOWN
from pipeline.encoders.waveform import RESAMPLER, cut, resample, segment_starts

CLASSES = 527
WIDTH = 2048
SHORTEST = 10_240  # samples, 0.32 s: five halvings of time must leave one frame (32 frames and the centre's one)


class _ConvBlock(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, maps: Tensor, pool: int) -> Tensor:
        maps = functional.relu(self.bn1(self.conv1(maps)))
        maps = functional.relu(self.bn2(self.conv2(maps)))
        return functional.avg_pool2d(maps, pool)


class Cnn14Network(nn.Module):
    """Cnn14 up to its embedding: log-mel frames in dB (N, F, 64), F >= 32 -> (N, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(MEL_BANDS)
        self.conv_block1 = _ConvBlock(1, 64)
        self.conv_block2 = _ConvBlock(64, 128)
        self.conv_block3 = _ConvBlock(128, 256)
        self.conv_block4 = _ConvBlock(256, 512)
        self.conv_block5 = _ConvBlock(512, 1024)
        self.conv_block6 = _ConvBlock(1024, WIDTH)
        self.fc1 = nn.Linear(WIDTH, WIDTH)
        self.fc_audioset = nn.Linear(WIDTH, CLASSES)

    def forward(self, frames: Tensor) -> Tensor:
        maps = self.bn0(frames.unsqueeze(1).transpose(1, 3)).transpose(1, 3)  # normalised per mel band
        for block in (self.conv_block1, self.conv_block2, self.conv_block3, self.conv_block4, self.conv_block5):
            maps = functional.dropout(block(maps, pool=2), 0.2, self.training)
        maps = functional.dropout(self.conv_block6(maps, pool=1), 0.2, self.training)
        over_time = maps.mean(dim=3)
        pooled = over_time.amax(dim=2) + over_time.mean(dim=2)
        return functional.relu(self.fc1(functional.dropout(pooled, 0.5, self.training)))


class Cnn14Config(PretrainedConfig):
    """Nothing to set but the weights."""


@ENCODERS.register("cnn14")
class Cnn14(AudioEncoder):
    """Cnn14 on each segment alone (CACE-Net: ten independent inputs of 1 s); segments under 0.32 s are padded with silence."""

    name = "cnn14"
    Config = Cnn14Config
    config: Cnn14Config
    output_shape = (WIDTH,)

    def __init__(self, config: Cnn14Config) -> None:
        super().__init__(config)
        self.network, self.fingerprints["weights"] = weights.build(
            Cnn14Network, config.weights, KNOWN["cnn14"], ignore=("spectrogram_extractor.", "logmel_extractor.")
        )

    def transform(self) -> dict[str, Any]:
        return {"sample_rate": CNN14_RATE, "resampler": RESAMPLER, "front_end": "cnn14", "shortest_samples": SHORTEST}

    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """(L,) -> (T, F, 64) dB; F = 101 for 1 s."""
        length = round(segment_seconds * CNN14_RATE)
        starts = segment_starts(segments, segment_seconds, CNN14_RATE)
        windows = cut(resample(waveform, sample_rate, CNN14_RATE), starts, length)
        return cnn14_logmel(functional.pad(windows, (0, max(0, SHORTEST - length))))

    def encode(self, batch: Tensor) -> Tensor:
        """(N, F, 64) -> (N, 2048), not negative."""
        return self.network(batch)

    def class_scores(self, batch: Tensor) -> Tensor:
        """(N, F, 64) -> (N, 527) probabilities of AudioSet's classes, in PANNs' order."""
        return torch.sigmoid(self.network.fc_audioset(self.network(batch)))
