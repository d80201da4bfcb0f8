"""The transform of frames, against the published transforms on PIL images, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.encoders.images import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from pipeline.encoders.timm_models import EfficientNetLite0Config, TimmConfig
from pipeline.encoders.torchvision_models import TorchvisionConfig, _transform
from pipeline.errors import PipelineError


def picture(height: int, width: int) -> torch.Tensor:
    """(1, H, W, 3) uint8 with edges and gradients at several scales."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 3.1 + y / 11) + np.sign(np.sin(y / 7.7)), np.cos(x * y / 900), (x + y) / (height + width) * 2 - 1]
    return torch.from_numpy(np.stack([np.clip(wave * 100 + 128, 0, 255) for wave in waves], axis=-1).astype(np.uint8))[None]


def grey_levels(difference: torch.Tensor) -> torch.Tensor:
    return (difference * torch.tensor(IMAGENET_STD)[:, None, None] * 255).abs()


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (240, 320), (100, 130)])
def test_resnet50_transform_is_torchvisions_within_a_grey_level(size):
    image = pytest.importorskip("PIL.Image")
    from torchvision.models import ResNet50_Weights

    frame = picture(*size)
    published = ResNet50_Weights.IMAGENET1K_V2.transforms()(image.fromarray(frame[0].numpy()))
    ours = _transform(TorchvisionConfig(), 224 / 232)(frame)[0]
    assert ours.shape == published.shape == (3, 224, 224)
    levels = grey_levels(ours - published)
    assert float(levels.max()) < 1.01
    assert float(levels.mean()) < 0.2


def test_vgg19_transform_is_torchvisions_within_a_grey_level():
    image = pytest.importorskip("PIL.Image")
    from torchvision.models import VGG19_Weights

    frame = picture(360, 640)
    published = VGG19_Weights.IMAGENET1K_V1.transforms()(image.fromarray(frame[0].numpy()))
    assert float(grey_levels(_transform(TorchvisionConfig(), 224 / 256)(frame)[0] - published).max()) < 1.01


def test_efficientnet_lite0_transform_is_timms_within_two_grey_levels():
    image = pytest.importorskip("PIL.Image")
    from timm.data import create_transform

    frame = picture(360, 640)
    half = (0.5, 0.5, 0.5)
    published = create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.875, mean=half, std=half)
    ours = ImageTransform(224, 256, True, "bicubic", half, half)(frame)[0]
    assert float((ours - published(image.fromarray(frame[0].numpy()))).abs().max() * 127.5) < 2.01


def test_normalisation_by_hand():
    frame = torch.full((1, 50, 60, 3), 255, dtype=torch.uint8)
    frame[..., 1] = 0
    out = _transform(TorchvisionConfig(), 224 / 232)(frame)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    torch.testing.assert_close(out, torch.tensor(expected)[None, :, None, None].expand(1, 3, 224, 224))


def test_crop_is_central_and_squeezing_keeps_everything():
    frame = torch.zeros(1, 64, 192, 3, dtype=torch.uint8)
    frame[:, :, :64, 0] = 255  # red left
    frame[:, :, 64:128, 1] = 255  # green middle
    frame[:, :, 128:, 2] = 255  # blue right
    plain = {"size": 64, "resize": 64, "interpolation": "bilinear", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    cropped = ImageTransform(crop=True, **plain)(frame)[0]
    assert cropped[:, 32, 32].tolist() == [0, 1, 0]
    assert float(cropped[0].max()) == float(cropped[2].max()) == 0
    squeezed = ImageTransform(crop=False, **plain)(frame)[0]
    for column, channel in ((5, 0), (32, 1), (58, 2)):
        assert int(squeezed[:, 32, column].argmax()) == channel


def test_a_strip_is_cut_before_it_grows():
    """The central square of a 1:40 strip is the same as that of its central part."""
    strip = picture(20, 800)
    transform = _transform(TorchvisionConfig(image_size=64), 224 / 232)
    torch.testing.assert_close(transform(strip), transform(strip[:, :, 320:480]), atol=0, rtol=0)


def test_resize_scales_with_the_image_size_unless_set():
    assert _transform(TorchvisionConfig(), 224 / 232).resize == 232
    assert _transform(TorchvisionConfig(image_size=112), 224 / 232).resize == 116
    assert _transform(TorchvisionConfig(resize=300), 224 / 232).resize == 300
    with pytest.raises(PipelineError, match=r"resize 100 .*image_size 224"):
        _transform(TorchvisionConfig(resize=100), 224 / 232)
    assert _transform(TorchvisionConfig(resize=100, crop=False), 224 / 232).size == 224


@pytest.mark.parametrize("frames", [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, 3), torch.zeros(1, 0, 8, 3).byte()])
def test_all_but_rgb_frames_is_refused(frames):
    with pytest.raises(PipelineError, match="RGB frames"):
        ImageTransform(32, 32, True, "bilinear", IMAGENET_MEAN, IMAGENET_STD)(frames)


@pytest.mark.parametrize("config", [TorchvisionConfig, EfficientNetLite0Config, TimmConfig])
def test_settings_out_of_range_are_refused(config):
    named = {"model": "resnet18"} if config is TimmConfig else {}
    for wrong in ({"image_size": 8}, {"pool": "max"}, {"resizee": 3}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            config(**named, **wrong)
