"""R(2+1)D-18: torchvision's network and transform, and segments that see their own frames in their own order."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from pipeline.encoders import create
from pipeline.encoders.known_weights import KNOWN
from pipeline.errors import PipelineError

SEGMENTS, FRAMES = 3, 8


@pytest.fixture(scope="module")
def encoder():
    return create("r2plus1d_18", weights="none")


def pictures(height: int, width: int) -> torch.Tensor:
    coarse = torch.randint(0, 256, (SEGMENTS * FRAMES, 3, height // 8, width // 8), generator=torch.Generator().manual_seed(1))
    smooth = nn.functional.interpolate(coarse.float(), size=(height, width), mode="bilinear")
    return smooth.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def test_a_segment_of_frames_is_one_input_as_torchvision_prepares_it(encoder):
    """Compared with torchvision's preset on pictures of 128 x 171, its own size, so that no resampling differs."""
    frames = pictures(128, 176)[:, :, 2:173]
    rows = encoder.prepare(frames, FRAMES)
    assert rows.shape == (SEGMENTS, 3, FRAMES, 112, 112)
    preset = models.video.R2Plus1D_18_Weights.KINETICS400_V1.transforms()
    for segment, row in zip(frames.split(FRAMES), rows, strict=True):
        torch.testing.assert_close(row, preset(segment.permute(0, 3, 1, 2)), rtol=0, atol=1e-5)


def test_the_network_is_torchvisions_up_to_its_classifier(encoder):
    reference = models.video.r2plus1d_18(weights=None).eval()
    reference.fc = nn.Identity()
    reference.load_state_dict(encoder.network.state_dict())
    rows = torch.randn(2, 3, 4, 48, 48)
    with torch.inference_mode():
        out = encoder.encode(rows)
        assert out.shape == (2, *encoder.output_shape) == (2, 512)
        torch.testing.assert_close(out, reference(rows), rtol=1e-5, atol=1e-5)


def test_the_order_of_frames_matters_within_a_segment_and_not_across(encoder):
    small = create("r2plus1d_18", weights="none", image_size=48)
    frames = pictures(64, 96)
    with torch.inference_mode():
        out = small.encode(small.prepare(frames, FRAMES))
        swapped = frames.clone()
        swapped[:FRAMES] = frames[:FRAMES].flip(0)
        other = small.encode(small.prepare(swapped, FRAMES))
    assert torch.equal(out[1:], other[1:])
    assert float((out[0] - other[0]).abs().max()) > 1e-5


def test_frames_that_fill_no_segment_are_refused(encoder):
    with pytest.raises(PipelineError, match=r"\b7 frames.*\b4\b"):
        encoder.prepare(torch.zeros(7, 40, 40, 3, dtype=torch.uint8), 4)


@pytest.mark.parametrize("name", ["resnet152", "r2plus1d_18"])
def test_the_published_files_are_those_torchvision_names(name):
    enumeration = {"resnet152": models.ResNet152_Weights.IMAGENET1K_V1, "r2plus1d_18": models.video.R2Plus1D_18_Weights.KINETICS400_V1}[
        name
    ]
    known = KNOWN[name]
    assert known.url == enumeration.url
    assert known.file == enumeration.url.rsplit("/", 1)[1]
    assert known.sha256 == known.file.removesuffix(".pth").rsplit("-", 1)[1]
