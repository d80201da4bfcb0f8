"""The transform on a device against torchvision's on the CPU, to the byte, where both can run: on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline import encoders
from pipeline.encoders.images import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from pipeline.encoders.resampling import resize, taps

# torchvision resizes uint8 bilinearly in whole numbers only with these; otherwise in float32, rounded once.
WHOLE = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
DEVICES = [
    torch.device("cpu"),
    pytest.param(torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")),
]
SIZES = [(1, 1), (1, 1000), (700, 3), (37, 53), (90, 160), (256, 256), (241, 320)]


def noise(count: int, height: int, width: int) -> torch.Tensor:
    """Frames of noise, half of them black and white: the hardest edges."""
    frames = np.random.default_rng(height * width).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    frames[: count // 2] = np.where(frames[: count // 2] > 127, 255, 0)
    return torch.from_numpy(frames)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_a_device_prepares_the_bytes_that_the_cpu_does(size, interpolation, device):
    frames = noise(2, *size)
    for side, short, crop in ((32, 37, True), (64, 64, True), (48, 48, False)):
        transform = ImageTransform(side, short, crop, interpolation, IMAGENET_MEAN, IMAGENET_STD)
        there, here = transform.on_device(frames.to(device)).cpu(), transform(frames)
        if interpolation == "bicubic" or WHOLE:
            assert torch.equal(there, here), (side, short, crop)
        else:
            assert float((there - here).abs().max()) < 1.01 / 255 / min(IMAGENET_STD)


def test_frames_are_prepared_a_few_at_a_time_without_a_difference(monkeypatch):
    frames, transform = noise(7, 40, 50), ImageTransform(32, 32, True, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    whole = transform.on_device(frames)
    monkeypatch.setattr("pipeline.encoders.images._FRAMES_AT_ONCE", 3)
    assert torch.equal(transform.on_device(frames), whole)
    assert transform.on_device(frames[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("name", ["vgg19", "efficientnet_lite0", "r2plus1d_18"])
def test_an_encoder_prepares_arranged_frames_on_a_device_as_on_the_cpu(name):
    encoder = encoders.create(name, weights="none", image_size=32)
    assert encoder.prepares_on_device
    frames = noise(6, 50, 60)
    assert torch.equal(encoder.prepare_on_device(encoder.arrange(frames, 3)), encoder.prepare(frames, 3))


def test_an_encoder_with_a_prepare_of_its_own_stays_on_the_cpu():
    class Grey(encoders.ENCODERS.get("vgg19")):
        def prepare(self, frames, per_segment=1):
            return super().prepare(frames.float().mean(-1, keepdim=True).expand(frames.shape).byte())

    assert not Grey(Grey.Config(weights="none", image_size=32)).prepares_on_device


def test_taps_by_hand():
    places, weights, bits = taps(4, 2, "bilinear")  # halved: 1/8, 3/8, 3/8, 1/8 of four pixels; what lies outside is left out
    assert places.tolist() == [[0, 1, 2], [1, 2, 3]]
    np.testing.assert_allclose(weights / 2.0**bits, [[3 / 7, 3 / 7, 1 / 7], [1 / 7, 3 / 7, 3 / 7]], atol=1e-4)
    assert resize(torch.full((1, 4, 4, 3), 200, dtype=torch.uint8), 2, 2, "bicubic").unique().tolist() == [200]
