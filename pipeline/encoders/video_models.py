"""R(2+1)D-18 with torchvision's Kinetics-400 weights: the frames of a segment are one input.

The weight file could not be downloaded here: loader, names, shapes and transform are tested with random weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from torch import Tensor, nn

from pipeline.encoders import weights
from pipeline.encoders.base import ENCODERS, VisualEncoder
from pipeline.encoders.images import FrameConfig, ImageTransform, scaled_resize
from pipeline.encoders.known_weights import KNOWN

if TYPE_CHECKING:  # imported where it is used: see torchvision_models
    from torchvision.models.video import VideoResNet

KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)
WIDTH = 512


class VideoConfig(FrameConfig):
    """:class:`~pipeline.encoders.images.FrameConfig` with the size the network was trained on."""

    image_size: int = Field(112, ge=32, le=2048)


def _r2plus1d_18() -> VideoResNet:
    from torchvision.models import video

    network = video.r2plus1d_18(weights=None)
    network.fc = nn.Identity()  # type: ignore[assignment]
    return network


@ENCODERS.register("r2plus1d_18")
class R2Plus1D18(VisualEncoder):
    """R(2+1)D-18 (Tran et al., CVPR 2018), KINETICS400_V1, pooled: (512,) per segment; LLP's (10, 512) at 8 frames a second.

    Transform: short side to 128, bilinear and antialiased; central 112; Kinetics' mean and deviation. (torchvision tests these weights
    on frames squeezed to 128 x 171, which is the same for 4:3 pictures.)
    """

    name = "r2plus1d_18"
    sees = "segment"
    Config = VideoConfig
    config: VideoConfig
    output_shape = (WIDTH,)

    def __init__(self, config: VideoConfig) -> None:
        super().__init__(config)
        self.network, self.fingerprints["weights"] = weights.build(_r2plus1d_18, config.weights, KNOWN["r2plus1d_18"], ignore=("fc.",))
        resize = scaled_resize(config, config.image_size, 112 / 128)
        self.image_transform = ImageTransform(config.image_size, resize, config.crop, "bilinear", KINETICS_MEAN, KINETICS_STD)

    def transform(self) -> dict[str, Any]:
        return self.image_transform.spec()

    def prepare(self, frames: Tensor, per_segment: int = 1) -> Tensor:
        """RGB frames (F, H, W, 3) uint8 -> (F / per_segment, 3, per_segment, size, size) float32.

        Raises:
            PipelineError: F is not a multiple of ``per_segment``.
        """
        segments = len(self.arrange(frames, per_segment))
        prepared = self.image_transform(frames)
        return prepared.reshape(segments, per_segment, *prepared.shape[1:]).transpose(1, 2).contiguous()

    @property
    def prepares_on_device(self) -> bool:
        return type(self).prepare is R2Plus1D18.prepare

    def prepare_on_device(self, rows: Tensor) -> Tensor:
        return self.image_transform.on_device(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]).transpose(1, 2)

    def encode(self, batch: Tensor) -> Tensor:
        """(N, 3, F, size, size) -> (N, 512)."""
        return self.network(batch)
