"""Image networks from timm: EfficientNet-Lite0, with weights from a pip package, and any other model by name."""

from __future__ import annotations

import difflib
import math
import sys
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
    """Settings of a timm model; sizes and the crop default to the model's own.

    model: any name of ``timm.list_models()``, with or without a tag such as ``.a1_in1k``.
    pool: ``map`` and ``average`` as elsewhere; ``pooled``, what the model puts before its classifier (a transformer's class token);
        ``projected``, what its head makes of that: for CLIP's image towers the embedding in the joint space of images and texts.
    final_norm: apply the network's last norm to the map, as DINOv2's patch tokens are published.
    """

    model: str
    crop: bool | None = Field(  # type: ignore[assignment]
        None, description="take the central square; false squeezes the whole frame into it; null: as the model does"
    )
    pool: Literal["map", "average", "pooled", "projected"] = "map"  # type: ignore[assignment]
    final_norm: bool = Field(False, description="apply the network's last norm to the map (DINOv2's patch tokens)")


def _stated(model: str) -> PretrainedCfg:
    """Read timm's settings of the model: input size, crop, mean and deviation, the name of its classifier, its licence.

    Raises:
        UnknownName: no such model.
        PipelineError: its weights were trained with another activation than the named variant has.
    """
    import timm
    from timm.models import PretrainedCfg

    if not timm.is_model(model):
        near = difflib.get_close_matches(model.split(".")[0], timm.list_models(), n=3)
        raise UnknownName(f"unknown timm model {model!r}; near it: {', '.join(near) or 'none'} (timm.list_models() has them all)")
    stated: PretrainedCfg = timm.get_pretrained_cfg(model) or PretrainedCfg()
    if "quickgelu" not in model and any("QuickGELU" in note for note in stated.notes or ()):
        raise PipelineError(
            f"timm model {model!r}: these weights were trained with QuickGELU, and this variant computes GELU, silently worse; "
            f"name {model.replace('_clip_', '_clip_quickgelu_')}"
        )
    return stated


def _create(config: TimmConfig, stated: PretrainedCfg) -> Any:
    """Create the model, with its head only for ``pool: projected``; those with a fixed input size are built for ``image_size``.

    Raises:
        PipelineError: timm cannot build the model with this tag or size, or it lacks what ``pool`` asks for.
    """
    import timm

    model, image_size = config.model, config.image_size
    options: dict[str, Any] = {"img_size": image_size} if stated.fixed_input_size and image_size is not None else {}
    classes = stated.num_classes if config.pool == "projected" else 0
    if config.pool == "projected" and not classes:
        raise PipelineError(f"timm model {model!r} has no head that projects; set pool: pooled")
    try:
        network = timm.create_model(model, pretrained=False, num_classes=classes, **options)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise PipelineError(f"timm model {model!r} with image_size {image_size}: {error}") from error
    if config.pool in ("map", "average") and not hasattr(network, "forward_intermediates"):
        raise PipelineError(
            f"timm model {model!r} gives no feature maps (timm has no forward_intermediates for it); choose another, or pool: pooled"
        )
    return network


def _converted(state: State, network: nn.Module) -> State:
    """Let timm convert a file with other layer names or positions, as it converts what it downloads."""
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    if all(name in state and state[name].shape == shape for name, shape in wanted.items()):
        return state
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        converted: State = convert(dict(state), network)
    except (KeyError, RuntimeError, AttributeError, ValueError):  # the file of another architecture: the later check names its layers
        return state
    return converted


def _transform(config: TimmConfig, stated: PretrainedCfg) -> ImageTransform:
    """Timm's own transform for evaluation, on uint8 tensors.

    Raises:
        PipelineError: it is one that cannot be followed without a setting: oblong, with a border, or squeezed and then cropped.
    """
    height, width = stated.input_size[-2:]
    if config.image_size is None and height != width:
        raise PipelineError(f"timm model {config.model!r} is made for frames of {height} x {width}; state image_size, for square ones")
    size = config.image_size if config.image_size is not None else width
    share, crop = stated.crop_pct or 0.875, config.crop
    if crop is None:
        if stated.crop_mode == "border" or (stated.crop_mode == "squash" and share < 1):
            raise PipelineError(f"timm model {config.model!r} was tested with crop mode {stated.crop_mode!r}; state crop: true or false")
        crop = stated.crop_mode != "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear" if stated.interpolation == "bilinear" else "bicubic"
    resize = config.resize if config.resize is not None else math.floor(size / share)
    return ImageTransform(size, resize, crop, interpolation, tuple(stated.mean), tuple(stated.std))


class TimmEncoder(ImageEncoder):
    """An image network of timm's with the transform that timm states for it."""

    config: TimmConfig

    def __init__(self, config: TimmConfig) -> None:
        super().__init__(config)
        stated = _stated(config.model)
        known = KnownWeights(
            name=config.model,
            file=f"{config.model}.safetensors",
            licence=stated.license or "see the model's card",
            note=f"fetch model.safetensors of {stated.hf_hub_id or config.model} (Hugging Face) and put it at"
            f" models/pretrained/{config.model}.safetensors",
        )
        heads = (stated.classifier,) if isinstance(stated.classifier, str) else stated.classifier or ()
        ignore = () if config.pool == "projected" else tuple(f"{head}." for head in heads)
        self.network, self.fingerprints["weights"] = weights.build(
            lambda: _create(config, stated), config.weights, known, ignore=ignore, adapt=_converted
        )
        self.image_transform = _transform(config, stated)
        self.output_shape = self._look(self.image_transform.size)

    def _look(self, size: int) -> tuple[int, ...]:
        """Measure the shape of a frame's features: architectures round differently."""
        self.network.eval()
        try:
            with torch.inference_mode():
                return tuple(self.encode(torch.zeros(1, 3, size, size)).shape[1:])
        except (RuntimeError, TypeError, AssertionError) as error:
            raise PipelineError(f"timm model {self.config.model!r} does not take images of {size} x {size}: {error}") from error

    def feature_map(self, batch: Tensor) -> Tensor:
        normed = {"norm": True} if self.config.final_norm else {}
        return self.network.forward_intermediates(batch, indices=1, intermediates_only=True, output_fmt="NCHW", **normed)[-1]

    def encode(self, batch: Tensor) -> Tensor:
        """(N, 3, size, size) -> (N, h, w, D) with ``pool: map``, else (N, D)."""
        return self.network(batch) if self.config.pool in ("pooled", "projected") else super().encode(batch)


@ENCODERS.register("timm")
class TimmModel(TimmEncoder):
    """Any timm model: its last feature map (what ``features_only=True`` returns last), (h, w, D), or its embedding, (D,).

    ``weights: pretrained`` looks for models/pretrained/MODEL.safetensors as timm publishes it; nothing is downloaded. The transform
    (size, crop, interpolation, mean and deviation) is timm's own for the model. Files that timm converts while loading (DINOv2's and CLIP's
    original checkpoints, another input size) are converted by timm.
    """

    name = "timm"
    Config = TimmConfig
    version = 2
