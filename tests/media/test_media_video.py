from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.media.container import MediaError
from pipeline.media.probe import probe
from pipeline.media.video import read_frames, scaled_size

DECODERS = ("pyav", "decord")


def numbers(frames, number_of) -> list[int]:
    return [number_of(image) for image in frames.images]


@pytest.mark.parametrize("decoder", DECODERS)
def test_shows_the_last_picture_not_after_the_time(sound_clip, number_of, decoder):
    times = np.array([0.0, 0.05, 0.099, 0.1, 0.55, 1.999, 3.95])
    frames = read_frames(sound_clip, times, probe(sound_clip), decoder)
    assert numbers(frames, number_of) == [0, 0, 0, 1, 5, 19, 39]
    assert frames.covered.all()
    assert frames.images.shape == (7, 96, 128, 3)
    assert frames.images.dtype == np.uint8


@pytest.mark.parametrize("decoder", DECODERS)
def test_times_beyond_the_end_repeat_the_last_picture_and_say_so(sound_clip, number_of, decoder):
    frames = read_frames(sound_clip, np.array([3.95, 4.2, 9.0]), probe(sound_clip), decoder)
    assert numbers(frames, number_of) == [39, 39, 39]
    assert frames.covered.tolist() == [True, False, False]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
@pytest.mark.fault(7)
def test_variable_frame_rate_is_sampled_by_time(make_clip, number_of, decoder, name):
    shown_at = [0.0, 0.04, 0.08, 0.12, 0.5, 0.9, 1.3, 1.34, 1.38, 1.9]
    path = make_clip(name, times=shown_at, fps=25, audio_codec=None)
    times = np.arange(0.02, 1.9, 0.06)
    frames = read_frames(path, times, probe(path), decoder)
    expected = [max(i for i, start in enumerate(shown_at) if start <= t + 5e-4) for t in times]
    assert numbers(frames, number_of) == expected
    by_average_rate = [int(t * len(shown_at) / 1.94) for t in times]
    assert by_average_rate != expected  # counting frames would have been wrong


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.fault(7)
def test_a_late_start_seeks_to_the_same_pictures(make_clip, number_of, decoder):
    path = make_clip(seconds=20.0, audio_codec=None, size=(48, 64))
    frames = read_frames(path, np.array([15.05, 16.25]), probe(path), decoder)
    assert numbers(frames, number_of) == [150, 162]


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
@pytest.mark.fault(7)
def test_rotation_is_applied_by_both_decoders(make_clip, rotation, turns):
    path = make_clip(rotation=rotation, seconds=1.0, audio_codec=None)
    plain = make_clip("plain.mp4", seconds=1.0, audio_codec=None)
    times = np.array([0.55])
    upright = np.rot90(read_frames(plain, times, probe(plain), "pyav").images[0], turns)
    for decoder in DECODERS:
        image = read_frames(path, times, probe(path), decoder).images[0]
        assert image.shape == upright.shape
        assert np.abs(image.astype(int) - upright).mean() < 1.0


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ten_bit.mp4", {"pixel_format": "yuv420p10le"}),
        ("full_chroma.mkv", {"pixel_format": "yuv444p", "size": (51, 77)}),
        ("mpeg4.avi", {"codec": "mpeg4", "audio_codec": "pcm_s16le"}),
        ("vp9.webm", {"codec": "libvpx-vp9", "audio_codec": "libopus", "rate": 48000}),
        ("mpeg.ts", {"audio_codec": "mp2"}),
    ],
)
@pytest.mark.fault(7)
def test_formats_give_rgb_and_the_right_pictures(make_clip, number_of, name, parts):
    path = make_clip(name, seconds=1.0, **parts)
    frames = read_frames(path, np.array([0.05, 0.55]), probe(path))
    assert numbers(frames, number_of) == [0, 5]
    red, green, blue = frames.images[0][: frames.images.shape[1] // 5].reshape(-1, 3).mean(axis=0)
    assert red > 100
    assert max(green, blue) < 60


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.fault(7)
def test_decoders_agree_to_the_picture_and_nearly_to_the_pixel(make_clip, number_of, decoder):
    path = make_clip(fps=24, seconds=3.0, audio_start=0.3)
    times = (np.arange(24) + 0.5) / 8
    one, other = (read_frames(path, times, probe(path), name) for name in ("pyav", decoder))
    assert np.abs(one.times - other.times).max() < 2e-3
    assert np.abs(one.images.astype(int) - other.images).mean() < 1.5


def test_larger_pictures_are_scaled_down_by_averaging_and_never_enlarged(sound_clip):
    found, times = probe(sound_clip), np.array([0.55])
    full = read_frames(sound_clip, times, found).images[0].astype(float)
    half = read_frames(sound_clip, times, found, frame_size=48).images[0]
    assert half.shape == (48, 64, 3)
    averaged = full.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - averaged).mean() < 2.0
    assert read_frames(sound_clip, times, found, frame_size=500).images.shape == (1, 96, 128, 3)
    assert scaled_size((360, 641), 224) == (224, round(641 * 224 / 360))


def test_bad_requests_are_refused(make_clip, sound_clip):
    with pytest.raises(ValueError, match="ascending"):
        read_frames(sound_clip, np.array([1.0, 0.5]), probe(sound_clip))
    silent = make_clip("sound_only.m4a", codec=None)
    with pytest.raises(MediaError, match="no_video"):
        read_frames(silent, np.array([0.0]), probe(silent))


def test_probe_states_what_is_there(sound_clip):
    found = probe(sound_clip)
    assert (found.video.width, found.video.height, found.video.codec) == (128, 96, "h264")
    assert math.isclose(found.video.rate, 10.0, rel_tol=1e-3)
    assert math.isclose(found.duration, 4.0, abs_tol=0.1)
    assert (found.audio.rate, found.audio.channels) == (16000, 1)
