"""Image networks from timm: EfficientNet-Lite0, with weights from a pip package, and any other model by name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.encoders import weights
from pipeline.encoders.base import ENCODERS
from pipeline.encoders.images import ImageConfig, ImageEncoder, ImageTransform, scaled_resize
from pipeline.encoders.known_weights import KNOWN, KnownWeights
from pipeline.encoders.weights import State
from pipeline.errors import PipelineError
from pipeline.registry import UnknownName

if TYPE_CHECKING:  # timm takes a second to import, and every stage reads the encoders' settings
    from timm.models import PretrainedCfg

_COUNTER = "num_batches_tracked"


class EfficientNetLite0Config(ImageConfig):
    """Settings of EfficientNet-Lite0.

    layer: ``last_stage``, the 320 channels of the last block, or ``head``, the 1280 channels after the 1x1 convolution over them.
    """

    image_size: int = Field(224, ge=32, le=2048)
    layer: Literal["last_stage", "head"] = "last_stage"


def rename_by_position(state: State, network: nn.Module) -> State:
    """Give the packaged file's layers timm's names.

    Both list the same 247 tensors in the same order (batch counters aside). A file that already has timm's names (a fine-tuned one)
    passes unchanged; so does a file with other shapes, which the later check of names refuses.
    """
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    given = {name: value for name, value in state.items() if not name.endswith(_COUNTER)}
    if given.keys() == wanted.keys() or [v.shape for v in given.values()] != [v.shape for v in wanted.values()]:
        return state
    return dict(zip(wanted, given.values(), strict=True))


def _efficientnet_lite0() -> Any:
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False)


@ENCODERS.register("efficientnet_lite0")
class EfficientNetLite0(ImageEncoder):
    """EfficientNet-Lite0 (Tan & Le, ICML 2019; TensorFlow's Lite variant), 4.65 M parameters: (7, 7, 320) or (7, 7, 1280).

    Transform: short side to 256, bicubic and antialiased; central 224; mean and deviation 0.5 (the package uses (x - 127) / 128,
    under 0.012 apart).
    """

    name = "efficientnet_lite0"
    Config = EfficientNetLite0Config
    config: EfficientNetLite0Config

    def __init__(self, config: EfficientNetLite0Config) -> None:
        super().__init__(config)
        self.network, self.fingerprints["weights"] = weights.build(
            _efficientnet_lite0,
            config.weights,
            KNOWN["efficientnet_lite0"],
            adapt=rename_by_position,
        )
        resize = scaled_resize(config, config.image_size, 0.875)
        self.image_transform = ImageTransform(config.image_size, resize, config.crop, "bicubic", (0.5,) * 3, (0.5,) * 3)
        side = -(-config.image_size // 32)  # five halvings with SAME padding, each rounded up
        self.output_shape = self._shape(side, side, 320 if config.layer == "last_stage" else 1280)

    def feature_map(self, batch: Tensor) -> Tensor:
        if self.config.layer == "head":
            return self.network.forward_features(batch)
        return self.network.blocks(self.network.bn1(self.network.conv_stem(batch)))

    def class_scores(self, batch: Tensor) -> Tensor:
        """(N, 3, size, size) -> (N, 1000) probabilities of ImageNet's classes."""
        return self.network(batch).softmax(dim=1)


class TimmConfig(ImageConfig):
    """Settings of a timm model; sizes default to the model's own.

    model: any name of ``timm.list_models()``, with or without a tag such as ``.a1_in1k``.
    """

    model: str


def _stated(model: str) -> PretrainedCfg:
    """Read timm's settings of the model: input size, crop share, mean and deviation, the name of its classifier.

    Raises:
        UnknownName: no such model.
    """
    import timm
    from timm.models import PretrainedCfg

    if not timm.is_model(model):
        near = difflib.get_close_matches(model.split(".")[0], timm.list_models(), n=3)
        raise UnknownName(f"unknown timm model {model!r}; near it: {', '.join(near) or 'none'} (timm.list_models() has them all)")
    return timm.get_pretrained_cfg(model) or PretrainedCfg()


def _create(model: str, image_size: int | None, stated: PretrainedCfg) -> Any:
    """Create the model without its classifier; transformers with a fixed input size are built for ``image_size``.

    Raises:
        PipelineError: timm cannot build the model with this tag or size, or cannot return its feature maps.
    """
    import timm

    options: dict[str, Any] = {"img_size": image_size} if stated.fixed_input_size and image_size is not None else {}
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0, **options)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise PipelineError(f"timm model {model!r} with image_size {image_size}: {error}") from error
    if not hasattr(network, "forward_intermediates"):
        raise PipelineError(f"timm model {model!r} gives no feature maps (timm has no forward_intermediates for it); choose another")
    return network


@ENCODERS.register("timm")
class TimmModel(ImageEncoder):
    """The last feature map of any timm model that has one (what ``features_only=True`` returns last): (h, w, D).

    ``weights: pretrained`` looks for models/pretrained/MODEL.safetensors as timm publishes it; nothing is downloaded. The transform
    (size, crop share, interpolation, mean and deviation) is timm's own for the model. Files that timm converts while loading (original
    checkpoints with other layer names) are refused; save them from timm first.
    """

    name = "timm"
    Config = TimmConfig
    config: TimmConfig

    def __init__(self, config: TimmConfig) -> None:
        super().__init__(config)
        known = KnownWeights(
            name=config.model,
            file=f"{config.model}.safetensors",
            licence="see the model's card",
            note=f"fetch model.safetensors of timm/{config.model} and put it at models/pretrained/{config.model}.safetensors",
        )
        stated = _stated(config.model)
        heads = (stated.classifier,) if isinstance(stated.classifier, str) else stated.classifier or ()
        self.network, self.fingerprints["weights"] = weights.build(
            lambda: _create(config.model, config.image_size, stated), config.weights, known, ignore=tuple(f"{head}." for head in heads)
        )
        size = config.image_size if config.image_size is not None else stated.input_size[-1]
        interpolation: Literal["bilinear", "bicubic"] = "bilinear" if stated.interpolation == "bilinear" else "bicubic"
        resize = scaled_resize(config, size, stated.crop_pct or 0.875)
        self.image_transform = ImageTransform(size, resize, config.crop, interpolation, tuple(stated.mean), tuple(stated.std))
        self.output_shape = self._shape(*self._look(size))

    def _look(self, size: int) -> tuple[int, int, int]:
        """Measure height, width and channels of the map: architectures round differently."""
        self.network.eval()
        try:
            with torch.inference_mode():
                channels, height, width = self.feature_map(torch.zeros(1, 3, size, size)).shape[1:]
        except (RuntimeError, AssertionError) as error:
            raise PipelineError(f"timm model {self.config.model!r} does not take images of {size} x {size}: {error}") from error
        return height, width, channels

    def feature_map(self, batch: Tensor) -> Tensor:
        return self.network.forward_intermediates(batch, indices=1, intermediates_only=True, output_fmt="NCHW")[-1]
