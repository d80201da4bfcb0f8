"""Resampling and cutting."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.encoders.patches import consecutive_patches, segment_patches
from pipeline.encoders.waveform import cut, resample, segment_starts
from pipeline.errors import PipelineError


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 11_111])
def test_a_tone_keeps_its_pitch_and_length(rate):
    wave = torch.sin(2 * math.pi * 1000 * torch.arange(2 * rate) / rate)
    out = resample(wave, rate, 16_000)
    assert out.dtype == torch.float32
    assert abs(len(out) - 32_000) <= 320  # 11,111 Hz is taken for 11,100
    peak = torch.fft.rfft(out).abs().argmax() * 16_000 / len(out)
    assert abs(float(peak) - 1000) < 2
    middle = out[1000:-1000]
    assert float(middle.square().mean().sqrt()) == pytest.approx(math.sqrt(0.5), rel=0.02)


def test_resampling_removes_what_the_lower_rate_cannot_hold():
    wave = torch.sin(2 * math.pi * 10_000 * torch.arange(44_100) / 44_100)  # would alias to 6 kHz
    assert float(resample(wave, 44_100, 16_000)[1000:-1000].abs().max()) < 0.01


def test_empty_audio_stays_empty():
    assert resample(torch.zeros(0), 44_100, 16_000).shape == (0,)


@pytest.mark.parametrize(("wave", "rate"), [(torch.zeros(2, 100), 16_000), (torch.zeros(100).short(), 16_000), (torch.zeros(9), 0)])
def test_all_but_mono_float_audio_is_refused(wave, rate):
    with pytest.raises(PipelineError):
        resample(wave, rate, 16_000)


def test_cut_pads_beyond_the_end_with_silence():
    windows = cut(torch.arange(1.0, 6.0), torch.tensor([[0, 3], [4, 9]]), 3)
    assert windows.tolist() == [[[1, 2, 3], [4, 5, 0]], [[5, 0, 0], [0, 0, 0]]]


def test_segment_starts_do_not_drift():
    assert segment_starts(4, 1.0, 16_000).tolist() == [0, 16_000, 32_000, 48_000]
    assert segment_starts(1001, 1 / 3, 16_000)[-1] == round(1000 / 3 * 16_000)


def loud_between(start: float, stop: float, seconds: float = 10.0) -> torch.Tensor:
    time = torch.arange(round(seconds * 16_000)) / 16_000
    return torch.sin(2 * math.pi * 440 * time) * ((time >= start) & (time < stop))


def audible(patches: torch.Tensor) -> list[bool]:
    return (patches.amax(dim=(1, 2, 3)) > 0).tolist()


def test_patches_hear_their_own_segment():
    """A sound from 8.7 to 8.9 s is in the ninth segment; the published 0.96 s hop puts it into the tenth patch."""
    wave = loud_between(8.7, 8.9)
    assert audible(segment_patches(wave, 10, 1.0, 0.01)) == [False] * 8 + [True, False]
    assert audible(consecutive_patches(wave, 10, 0.01)) == [False] * 9 + [True]


def test_patches_of_long_and_of_short_segments():
    wave = loud_between(5.0, 5.5)
    long = segment_patches(wave, 4, 2.5, 0.01)
    assert long.shape == (4, 2, 96, 64)
    assert (long.amax(dim=(2, 3)) > 0).tolist() == [[False, False], [False, False], [True, False], [False, False]]
    short = segment_patches(wave, 30, 0.32, 0.01)
    assert short.shape == (30, 1, 96, 64)
    windows = [(k * 0.32, k * 0.32 + 0.975) for k in range(30)]
    assert audible(short) == [start < 5.5 and stop > 5.01 for start, stop in windows]
