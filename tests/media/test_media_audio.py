from __future__ import annotations

import numpy as np
import pytest

from pipeline.media.audio import mono, read_audio
from pipeline.media.container import MediaError
from pipeline.media.probe import probe


def click_at(moment: float):
    return lambda t: 0.8 * np.exp(-(((t - moment) * 2000) ** 2))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac"), ("a.avi", "pcm_s16le"), ("a.mov", "pcm_s16le")])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_click_is_where_it_was_put(make_clip, name, codec, rate):
    path = make_clip(name, seconds=2.0, rate=rate, audio_codec=codec, waveform=click_at(1.25))
    audio = read_audio(path, probe(path), 0.0, 2.0)
    assert (audio.sample_rate, len(audio.waveform)) == (rate, 2 * rate)
    assert audio.waveform.dtype == np.float32
    assert abs(np.argmax(audio.waveform) / rate - 1.25) < 0.002
    assert audio.covered.mean() > 0.95


def test_a_window_starts_on_the_same_clock(make_clip):
    path = make_clip(seconds=12.0, waveform=click_at(9.25), size=(32, 32))
    audio = read_audio(path, probe(path), 8.0, 2.0)
    assert abs(np.argmax(audio.waveform) / audio.sample_rate - 1.25) < 0.002
    assert audio.covered.all()


@pytest.mark.fault(7)
def test_sound_that_starts_late_keeps_its_delay(make_clip):
    path = make_clip("late.mkv", seconds=3.0, audio_seconds=2.0, audio_start=0.5, waveform=click_at(0.75), audio_codec="flac")
    audio = read_audio(path, probe(path), 0.0, 3.0)
    assert abs(np.argmax(audio.waveform) / audio.sample_rate - 1.25) < 0.002
    assert not audio.covered[: int(0.49 * audio.sample_rate)].any()
    assert abs(audio.covered_seconds - 2.0) < 0.07


@pytest.mark.fault(7)
def test_five_point_one_becomes_the_mean_of_its_channels(make_clip):
    path = make_clip("surround.mkv", seconds=1.0, layout="5.1", audio_codec="pcm_s16le", rate=48000)
    audio = read_audio(path, probe(path), 0.0, 1.0)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    assert np.abs(audio.waveform - expected).max() < 1e-3


@pytest.mark.fault(5)
def test_short_sound_is_padded_with_silence(make_clip):
    path = make_clip(seconds=3.0, audio_seconds=0.2)
    audio = read_audio(path, probe(path), 0.0, 3.0)
    assert len(audio.waveform) == 3 * 16000
    assert not audio.waveform[int(0.4 * 16000) :].any()
    assert audio.covered_seconds < 0.4


@pytest.mark.fault(3)
def test_not_a_number_becomes_silence():
    import av

    samples = np.array([[0.5, np.nan, np.inf, -np.inf], [0.1, 0.0, 0.0, 0.0]], np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    assert mono(frame).tolist() == pytest.approx([0.3, 0.0, 1.0, -1.0])


def test_one_channel_is_its_own_mean_to_the_bit():
    import av

    samples = np.array([[-0.0, 0.25, np.nan, 3.0, -np.inf]], np.float32)
    expected = np.array([0.0, 0.25, 0.0, 1.0, -1.0], np.float32)
    assert mono(av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")).tobytes() == expected.tobytes()


def test_without_a_stream_it_says_so(make_clip):
    path = make_clip(audio_codec=None, seconds=0.5)
    with pytest.raises(MediaError, match="no_audio"):
        read_audio(path, probe(path), 0.0, 1.0)
