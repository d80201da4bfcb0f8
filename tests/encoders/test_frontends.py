"""The audio front ends against computations that share no code with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.encoders.frontends import cnn14_logmel, vggish_frames, vggish_logmel


def tone_and_noise(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    """float64 in [-1, 1]: a chirp, a tone and noise that fades in and out."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    noise = generator.standard_normal(len(time)) * 0.1 * np.sin(np.pi * time / seconds) ** 2
    return np.clip(0.3 * np.sin(2 * np.pi * 1000 * time) + 0.2 * np.sin(2 * np.pi * (200 + 300 * time) * time) + noise, -1, 1)


def reference_vggish(wave: np.ndarray, offset: float) -> np.ndarray:
    """Frame by frame and band by band in float64, from the description: (F, 64)."""
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 400) for n in range(400)]
    edges = np.linspace(1127 * math.log(1 + 125 / 700), 1127 * math.log(1 + 7500 / 700), 66)
    matrix = np.zeros((257, 64))
    for k in range(1, 257):
        mel = 1127 * math.log(1 + k * 16000 / 512 / 700)
        for band in range(64):
            low, mid, high = edges[band : band + 3]
            matrix[k, band] = max(0.0, min((mel - low) / (mid - low), (high - mel) / (high - mid)))
    rows = []
    for start in range(0, len(wave) - 400 + 1, 160):
        spectrum = np.abs(np.fft.rfft(wave[start : start + 400] * window, 512))
        rows.append(np.log(spectrum @ matrix + offset))
    return np.stack(rows)


@pytest.mark.parametrize("offset", [0.01, 0.001])
def test_vggish_equals_a_float64_reference(offset):
    wave = tone_and_noise(16_000, 3.0)
    ours = vggish_frames(torch.from_numpy(wave), offset)
    expected = reference_vggish(wave, offset)
    assert ours.dtype == torch.float32
    assert ours.shape == expected.shape == (298, 64)
    assert expected.std() > 0.5  # not a flat spectrum that anything would match
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5, rtol=0)


def test_vggish_silence_is_the_log_of_the_offset():
    assert torch.equal(vggish_logmel(torch.zeros(16_000)), torch.full((1, 96, 64), 0.01).log())


@pytest.mark.parametrize(
    ("seconds", "hop", "examples"),
    [(10.0, 0.96, 10), (10.0, 1.0, 10), (9.9, 0.96, 10), (9.9, 1.0, 9), (9.6, 0.96, 9), (0.975, 0.96, 1), (0.1, 0.96, 1), (0.0, 1.0, 1)],
)
def test_vggish_number_of_examples(seconds, hop, examples):
    assert vggish_logmel(torch.zeros(round(16_000 * seconds)), hop=hop).shape == (examples, 96, 64)


@pytest.mark.parametrize(("hop", "first_frame"), [(0.96, 864), (1.0, 900)])
def test_the_tenth_vggish_example_starts_where_its_hop_says(hop, first_frame):
    wave = torch.from_numpy(tone_and_noise(16_000, 10.0)).float()
    expected = vggish_frames(wave)[first_frame : first_frame + 96]
    torch.testing.assert_close(vggish_logmel(wave, hop=hop)[9], expected, atol=1e-6, rtol=0)


@pytest.mark.fault(10)
def test_short_vggish_audio_is_padded_with_silence():
    wave = torch.from_numpy(tone_and_noise(16_000, 0.5)).float()
    padded = torch.cat([wave, torch.zeros(8_000)])
    assert torch.equal(vggish_logmel(wave), vggish_logmel(padded))


@pytest.mark.parametrize("hop", [0.0, -0.96, 0.965])
def test_vggish_refuses_a_hop_between_frames(hop):
    with pytest.raises(ValueError, match=r"multiple of 0\.01"):
        vggish_logmel(torch.zeros(16_000), hop=hop)


def test_cnn14_equals_librosa():
    librosa = pytest.importorskip("librosa")
    wave = tone_and_noise(32_000, 2.0)
    bands = {"n_mels": 64, "fmin": 50, "fmax": 14_000}
    power = librosa.feature.melspectrogram(y=wave, sr=32_000, n_fft=1024, hop_length=320, pad_mode="reflect", **bands)
    expected = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None).T
    ours = cnn14_logmel(torch.from_numpy(wave))
    assert ours.dtype == torch.float32
    assert ours.shape == expected.shape == (201, 64)
    assert np.ptp(expected) > 20
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-3, rtol=0)


def test_cnn14_equals_torchaudio():
    torchaudio = pytest.importorskip("torchaudio")
    wave = torch.from_numpy(tone_and_noise(32_000, 1.0, seed=3)).float()
    mel = torchaudio.transforms.MelSpectrogram(
        32_000, n_fft=1024, hop_length=320, f_min=50, f_max=14_000, n_mels=64, norm="slaney", mel_scale="slaney"
    )
    expected = 10 * torch.log10(mel(wave).T.clamp(min=1e-10))
    torch.testing.assert_close(cnn14_logmel(wave), expected, atol=1e-3, rtol=0)


def test_cnn14_frames_floor_and_short_input():
    assert cnn14_logmel(torch.zeros(320_000)).shape == (1001, 64)
    assert torch.equal(cnn14_logmel(torch.zeros(32_000)), torch.full((101, 64), -100.0))
    assert cnn14_logmel(torch.zeros(10)).shape == (4, 64)


@pytest.mark.parametrize("front_end", [vggish_logmel, cnn14_logmel])
def test_leading_dimensions_are_a_batch(front_end):
    waves = torch.from_numpy(np.stack([tone_and_noise(16_000, 2.0, seed) for seed in range(6)])).float().reshape(2, 3, -1)
    together = front_end(waves)
    assert together.shape[:2] == (2, 3)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], front_end(waves[i, j]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("front_end", [vggish_logmel, cnn14_logmel])
def test_integers_are_refused(front_end):
    with pytest.raises(TypeError, match="float"):
        front_end(torch.zeros(32_000, dtype=torch.int16))
