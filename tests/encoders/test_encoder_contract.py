"""What every registered encoder promises, checked on every one of them."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.encoders import ENCODERS, AudioEncoder, VisualEncoder, create
from pipeline.errors import PipelineError

pytestmark = pytest.mark.xdist_group("encoder-contract")  # one worker builds each encoder once

# Random weights where real ones cannot be had everywhere; small images to keep it quick.
FOLDERS = Path(__file__).with_name("data")
SETTINGS: dict[str, dict] = {
    "logmel": {},
    "yamnet": {"weights": "none"},
    "vggish": {"weights": "none", "final_relu": False},
    "cnn14": {"weights": "none"},
    "resnet50": {"weights": "none", "image_size": 96},
    "resnet152": {"weights": "none", "image_size": 64, "pool": "map", "frames": "mean"},
    "r2plus1d_18": {"weights": "none", "image_size": 48},
    "vgg19": {"weights": "none", "image_size": 64},
    "efficientnet_lite0": {"image_size": 112},
    "timm": {"weights": "none", "image_size": 96, "model": "resnet18"},
    "clip": {"weights": "none", "image_size": 32, "model": "vit_xsmall_patch16_clip_224"},
    "clap": {"weights": "none", "folder": str(FOLDERS / "clap")},
    "ast": {"weights": "none", "folder": str(FOLDERS / "ast")},
    "waveform_transformer": {"weights": "none", "folder": str(FOLDERS / "wav2vec2")},
    "hear": {"weights": "none", "module": str(FOLDERS / "tiny_hear.py")},
}

# Another legal value of every setting that moves numbers, with what else it needs.
OTHER_VALUES: dict[str, dict] = {
    "image_size": {"image_size": 128},
    "resize": {"resize": 200},
    "crop": {"crop": False},
    "pool": {"pool": "average"},
    "frames": {"frames": "keep"},
    "layer": {"layer": "head"},
    "yamnet.layer": {"layer": "scores"},
    "model": {"model": "resnet10t"},
    "final_relu": {"final_relu": True},
    "pca": {"pca": True},
    "quantize": {"pca": True, "quantize": True},
    "hop": {"hop": 1.0},
    "final_norm": {"final_norm": True, "model": "test_vit"},
    "preprocessing": {"preprocessing": "valor"},
    "clap.pool": {"pool": "pooled"},
}

ALL = sorted(SETTINGS)
AUDIO = [name for name in ALL if issubclass(ENCODERS.get(name), AudioEncoder)]
VISUAL = [name for name in ALL if issubclass(ENCODERS.get(name), VisualEncoder)]


@cache
def built(name: str):
    return create(name, **SETTINGS[name])


@pytest.fixture(params=ALL)
def encoder(request):
    return built(request.param)


@pytest.fixture(params=AUDIO)
def audio_encoder(request):
    return built(request.param)


@pytest.fixture(params=VISUAL)
def visual_encoder(request):
    return built(request.param)


@pytest.fixture(autouse=True, scope="module")
def _forget():
    """Ten networks are a gigabyte."""
    yield
    built.cache_clear()


def chirp(rate: int, seconds: float) -> torch.Tensor:
    time = torch.arange(round(rate * seconds)) / rate
    return 0.5 * torch.sin(2 * math.pi * (100 + 250 * time) * time)


def pictures(count: int, height: int = 90, width: int = 160) -> torch.Tensor:
    noise = np.random.default_rng(count).integers(0, 256, (count, height // 6 + 1, width // 6 + 1, 3), dtype=np.uint8)
    return torch.from_numpy(noise.repeat(6, 1).repeat(6, 2)[:, :height, :width])


def prepared(encoder, count: int) -> torch.Tensor:
    if isinstance(encoder, VisualEncoder):
        return encoder.prepare(pictures(count))
    return encoder.prepare(chirp(44_100, float(count)), 44_100, count, 1.0)


def test_every_registered_encoder_is_tested():
    assert ENCODERS.names() == ALL == sorted(AUDIO + VISUAL)


def test_name_and_modality(encoder):
    assert ENCODERS.get(encoder.name) is type(encoder)
    assert encoder.modality == ("visual" if isinstance(encoder, VisualEncoder) else "audio")


def test_frozen_and_in_eval_mode(encoder):
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_shape_type_and_independence_of_the_batch(encoder):
    batch = prepared(encoder, 16)
    assert batch.dtype == torch.float32
    with torch.inference_mode():
        together = encoder.encode(batch)
        one_by_one = torch.cat([encoder.encode(batch[i : i + 1]) for i in (0, 7, 15)])
    assert together.shape == (16, *encoder.output_shape)
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    scale = max(1.0, float(together.abs().max()))  # random weights may put out hundreds
    torch.testing.assert_close(together[[0, 7, 15]], one_by_one, atol=1e-4 * scale, rtol=0)
    assert float((together[0] - together[15]).abs().max()) > 1e-6 * scale  # the input matters at all


def test_same_input_same_output(encoder):
    with torch.inference_mode():
        first, second = (encoder.encode(prepared(encoder, 2)) for _ in range(2))
    assert torch.equal(first, second)


def test_spec_is_plain_json(encoder):
    spec = encoder.spec()
    assert json.loads(json.dumps(spec)) == spec
    assert spec["encoder"] == encoder.name
    assert set(spec) == {"encoder", "version", "settings", "weights", "transform"}
    assert "weights" not in spec["settings"]


@pytest.mark.fault(25)
def test_spec_changes_with_the_version(encoder, monkeypatch):
    before = encoder.spec()
    monkeypatch.setattr(type(encoder), "version", 99)
    assert encoder.spec() != before


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (700, 3), (37, 53), (480, 640)])
def test_frames_of_any_size_are_prepared(visual_encoder, size):
    frames = visual_encoder.prepare(pictures(2, *size))
    side = SETTINGS[visual_encoder.name]["image_size"]
    assert frames.shape in {(2, 3, side, side), (2, 3, 1, side, side)}
    assert torch.isfinite(frames).all()
    assert visual_encoder.prepare(pictures(2, *size)[:0]).shape == (0, *frames.shape[1:])


def test_the_frames_of_every_segment_are_prepared_on_their_own(visual_encoder):
    """Two segments of four frames: as many rows for each, and none that mixes them."""
    frames = pictures(8)
    rows = visual_encoder.prepare(frames, 4)
    assert len(rows) in {2, 8}
    first, second = (visual_encoder.prepare(part, 4) for part in frames.split(4))
    assert torch.equal(rows, torch.cat([first, second]))
    assert visual_encoder.frames in {"mean", "keep"}


@pytest.mark.parametrize("rate", [1_000, 8_000, 11_025, 11_127, 22_050, 44_100, 48_000, 384_000, 768_000])
@pytest.mark.parametrize("seconds", [0.0, 0.1, 2.9, 3.7])
@pytest.mark.fault(7, 10)
def test_audio_of_any_length_and_rate_is_prepared(audio_encoder, rate, seconds):
    batch = audio_encoder.prepare(chirp(rate, seconds), rate, 3, 1.0)
    assert batch.shape == audio_encoder.prepare(torch.zeros(3 * 16_000), 16_000, 3, 1.0).shape
    assert batch.shape[0] == 3
    assert torch.isfinite(batch).all()


@pytest.mark.fault(3, 10)
def test_silence_and_short_audio_give_finite_features(audio_encoder):
    with torch.inference_mode():
        for wave in (torch.zeros(48_000), chirp(16_000, 0.1)):
            assert torch.isfinite(audio_encoder.encode(audio_encoder.prepare(wave, 16_000, 2, 1.0))).all()


def test_a_sound_is_heard_in_its_own_segment_only(audio_encoder):
    """Silence but for the third of four seconds: the other three segments are alike."""
    wave = torch.zeros(64_000)
    wave[34_000:41_200] = chirp(16_000, 0.45)
    with torch.inference_mode():
        features = audio_encoder.encode(audio_encoder.prepare(wave, 16_000, 4, 1.0))
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[3])
    assert not torch.allclose(features[2], features[0], rtol=1e-3, atol=1e-6)


def settings_that_move_numbers() -> list[tuple[str, str]]:
    configs = {name: ENCODERS.get(name).Config for name in ALL}
    return [(name, field) for name, config in configs.items() for field in config.model_fields if field not in config.places]


@pytest.fixture
def _without_random_starts(monkeypatch):
    """Networks whose weights are whatever stands in memory: no spec depends on them, and drawing them takes half a second each."""
    for name in ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "uniform_", "normal_", "trunc_normal_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.usefixtures("_without_random_starts")
@pytest.mark.parametrize(("name", "field"), settings_that_move_numbers())
@pytest.mark.fault(25)
def test_spec_changes_with_every_setting(name, field, tmp_path):
    settings = dict(SETTINGS[name])
    if field in ("pca", "quantize"):
        settings["pca_params"] = str(tmp_path / "pca.npz")
        np.savez(settings["pca_params"], pca_eigen_vectors=np.eye(128), pca_means=np.zeros(128))
    other = {**settings, **(OTHER_VALUES.get(f"{name}.{field}") or OTHER_VALUES[field])}
    base = {**other, field: ENCODERS.get(name).Config(**settings).model_dump()[field]}
    assert base[field] != other[field]
    assert create(name, **base).spec() != create(name, **other).spec()


@pytest.mark.parametrize("name", [name for name in ALL if "weights" in ENCODERS.get(name).Config.model_fields])
@pytest.mark.fault(29)
def test_missing_weights_are_an_error_and_never_random(name, tmp_path):
    settings = {**SETTINGS[name], "weights": str(tmp_path / "nothing.safetensors")}
    with pytest.raises(PipelineError, match=r"nothing\.safetensors"):
        create(name, **settings)
