"""YAMNet (Plakal & Ellis 2020; MobileNet v1 on AudioSet, 521 classes): 1024-d embedding of a segment.

Layout of the weights file (safetensors, float32, batch norm folded in, PyTorch's axis order): ``conv`` 3x3 stride 2, 1 -> 32;
``blocks.0`` to ``blocks.12``, each ``depthwise`` 3x3 and ``pointwise`` 1x1; ``classifier`` 1024 -> 521; each with ``weight``, ``bias``.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.encoders import weights
from pipeline.encoders.base import ENCODERS, AudioEncoder, PretrainedConfig
from pipeline.encoders.frontends import VGGISH_RATE
from pipeline.encoders.known_weights import KNOWN
from pipeline.encoders.patches import segment_patches
from pipeline.encoders.waveform import RESAMPLER, resample

LOG_OFFSET = 0.001  # ten times finer than VGGish's
CLASSES = 521
WIDTH = 1024

# (output channels, stride of the depthwise convolution) of the 13 blocks
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def _same_pad(maps: Tensor, stride: int) -> Tensor:
    """Pad like TensorFlow's SAME for a 3x3 kernel: the extra line of an odd total is at the end."""
    pads: list[int] = []
    for size in (maps.shape[-1], maps.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + 3 - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(maps, pads)


class _Block(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(width, width, 3, stride, groups=width)
        self.pointwise = nn.Conv2d(width, out, 1)

    def forward(self, maps: Tensor) -> Tensor:
        maps = functional.relu(self.depthwise(_same_pad(maps, self.stride)))
        return functional.relu(self.pointwise(maps))


class YamnetNetwork(nn.Module):
    """Log-mel patches (N, 96, 64) -> embeddings (N, 1024)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 3, 2)
        widths = (32, *(out for out, _ in _BLOCKS[:-1]))
        self.blocks = nn.Sequential(*(_Block(width, out, stride) for width, (out, stride) in zip(widths, _BLOCKS, strict=True)))
        self.classifier = nn.Linear(WIDTH, CLASSES)
        weights.he_normal(self)

    def forward(self, patches: Tensor) -> Tensor:
        maps = functional.relu(self.conv(_same_pad(patches.unsqueeze(1), 2)))
        return self.blocks(maps).mean(dim=(2, 3))


class YamnetConfig(PretrainedConfig):
    """Which output is stored."""

    layer: Literal["embedding", "scores"] = Field(
        "embedding", description="embedding: 1024-d | scores: probabilities of AudioSet's 521 classes, for `labels`"
    )


@ENCODERS.register("yamnet")
class Yamnet(AudioEncoder):
    """YAMNet on the 0.96 s patch at each segment's start; segments of 1.92 s and longer average several.

    YAMNet's own code hops by 0.48 s; its second patch would reach into the next segment and blur localization, so it is left out.
    """

    name = "yamnet"
    Config = YamnetConfig
    config: YamnetConfig

    def __init__(self, config: YamnetConfig) -> None:
        super().__init__(config)
        self.output_shape = (WIDTH if config.layer == "embedding" else CLASSES,)
        self.network, self.fingerprints["weights"] = weights.build(YamnetNetwork, config.weights, KNOWN["yamnet"])

    def spec(self) -> dict[str, Any]:
        """As every encoder's; the embedding's is as it was before there was a choice, so caches and trained runs keep."""
        spec = super().spec()
        kept = {} if self.config.layer == "embedding" else {"layer": self.config.layer}
        return {**spec, "settings": kept}

    def transform(self) -> dict[str, Any]:
        return {"sample_rate": VGGISH_RATE, "resampler": RESAMPLER, "front_end": "vggish", "log_offset": LOG_OFFSET, "patches": "aligned"}

    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """(L,) -> (T, P, 96, 64) log-mel patches, P per segment."""
        return segment_patches(resample(waveform, sample_rate, VGGISH_RATE), segments, segment_seconds, LOG_OFFSET)

    def encode(self, batch: Tensor) -> Tensor:
        """(N, P, 96, 64) -> (N, 1024), not negative, or (N, 521) probabilities; the mean over the P patches."""
        if self.config.layer == "scores":
            return self.class_scores(batch)
        return self.network(batch.flatten(0, 1)).unflatten(0, batch.shape[:2]).mean(dim=1)

    def class_scores(self, batch: Tensor) -> Tensor:
        """(N, P, 96, 64) -> (N, 521) probabilities of AudioSet's classes, in the order of yamnet_class_map.csv; mean over patches."""
        scores = torch.sigmoid(self.network.classifier(self.network(batch.flatten(0, 1))))
        return scores.unflatten(0, batch.shape[:2]).mean(dim=1)
