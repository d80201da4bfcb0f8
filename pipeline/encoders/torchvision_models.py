"""ResNet-50, ResNet-152 and VGG19 with torchvision's ImageNet weights, their last maps.

The weight files could not be downloaded here: loaders, names, shapes and transforms are tested with random weights.
AVE's published visual_feature.h5 is VGG19 pool5 averaged over 16 frames, probably with Keras' weights and BGR order: to reproduce its
numbers, import that file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from pipeline.encoders import weights
from pipeline.encoders.base import ENCODERS
from pipeline.encoders.images import IMAGENET_MEAN, IMAGENET_STD, ImageConfig, ImageEncoder, ImageTransform, scaled_resize
from pipeline.encoders.known_weights import KNOWN

if TYPE_CHECKING:  # torchvision takes a second to import, and every stage reads the encoders' settings
    from torchvision.models import ResNet


class TorchvisionConfig(ImageConfig):
    """:class:`ImageConfig` with the size the networks were trained on."""

    image_size: int = Field(224, ge=32, le=2048)


def _transform(config: TorchvisionConfig, crop_share: float) -> ImageTransform:
    resize = scaled_resize(config, config.image_size, crop_share)
    return ImageTransform(config.image_size, resize, config.crop, "bilinear", IMAGENET_MEAN, IMAGENET_STD)


class _ResNet(ImageEncoder):
    """A residual network up to the map before pooling, (7, 7, 2048), or its mean.

    Transform: bilinear and antialiased; ImageNet mean and deviation.
    """

    Config = TorchvisionConfig
    config: TorchvisionConfig
    architecture: ClassVar[str]  # torchvision's name for it
    crop_share: ClassVar[float]  # 224 over the short side that the weights were tested with

    def __init__(self, config: TorchvisionConfig) -> None:
        super().__init__(config)
        self.network, self.fingerprints["weights"] = weights.build(self._make, config.weights, KNOWN[self.name], ignore=("fc.",))
        self.image_transform = _transform(config, self.crop_share)
        side = -(-config.image_size // 32)  # five halvings, each rounded up
        self.output_shape = self._shape(side, side, 2048)

    @classmethod
    def _make(cls) -> ResNet:
        from torchvision import models

        network: ResNet = getattr(models, cls.architecture)(weights=None)
        network.fc = nn.Identity()  # type: ignore[assignment]
        return network

    def feature_map(self, batch: Tensor) -> Tensor:
        net = self.network
        maps = net.maxpool(net.relu(net.bn1(net.conv1(batch))))
        return net.layer4(net.layer3(net.layer2(net.layer1(maps))))


@ENCODERS.register("resnet50")
class ResNet50(_ResNet):
    """ResNet-50 (He et al., CVPR 2016), IMAGENET1K_V2, the map before pooling: (7, 7, 2048), as CACE-Net uses it.

    Short side 232.
    """

    name = "resnet50"
    architecture = "resnet50"
    crop_share = 224 / 232


class ResNet152Config(TorchvisionConfig):
    """:class:`TorchvisionConfig` with the defaults that LLP's published features have."""

    pool: Literal["map", "average"] = "average"
    frames: Literal["mean", "keep"] = "keep"


@ENCODERS.register("resnet152")
class ResNet152(_ResNet):
    """ResNet-152 (He et al., CVPR 2016), IMAGENET1K_V1, pooled, every frame kept: (2048,).

    Short side 256. At media.frames_per_second 8 a clip of ten segments has (10, 8, 2048), LLP's (80, 2048) (Tian et al., ECCV 2020). LLP's
    script picks 80 frames evenly spaced by number, and its weights are pretrainedmodels' older export of the same ones.
    """

    name = "resnet152"
    Config = ResNet152Config
    config: ResNet152Config
    architecture = "resnet152"
    crop_share = 224 / 256


class Vgg19Features(nn.Module):
    """The convolutional part of VGG19, under torchvision's layer names (the classifier would be 480 MB of unused weights)."""

    def __init__(self) -> None:
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__()
        self.features = make_layers(cfgs["E"], batch_norm=False)
        weights.he_normal(self)


@ENCODERS.register("vgg19")
class Vgg19(ImageEncoder):
    """VGG19 (Simonyan & Zisserman, ICLR 2015), IMAGENET1K_V1, pool5: (7, 7, 512), as the early methods on AVE use it.

    Transform of these weights: short side to 256, bilinear and antialiased; central 224; ImageNet mean and deviation.
    """

    name = "vgg19"
    Config = TorchvisionConfig
    config: TorchvisionConfig

    def __init__(self, config: TorchvisionConfig) -> None:
        super().__init__(config)
        self.network, self.fingerprints["weights"] = weights.build(Vgg19Features, config.weights, KNOWN["vgg19"], ignore=("classifier.",))
        self.image_transform = _transform(config, 224 / 256)
        side = config.image_size // 32  # five halvings, each rounded down
        self.output_shape = self._shape(side, side, 512)

    def feature_map(self, batch: Tensor) -> Tensor:
        return self.network.features(batch)
