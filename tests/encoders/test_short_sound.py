"""Sound shorter than an encoder's shortest input, from the file to its features: padded, masked, and no exception."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.encoders import create
from pipeline.media.clip import decode_clip
from pipeline.media.settings import MediaSettings
from tests.media.conftest import write_clip

SEGMENTS = 2
# Seconds under the shortest input: ten hops of 10 ms survive Cnn14's five poolings only with padding; VGGish takes 0.96 s and a window.
SHORT = {"cnn14": [0.05, 0.2, 0.31], "vggish": [0.05, 0.4, 0.97], "yamnet": [0.05, 0.4, 0.97], "logmel": [0.05]}
SETTINGS = {"cnn14": {"weights": "none"}, "vggish": {"weights": "none", "final_relu": False}, "yamnet": {"weights": "none"}, "logmel": {}}


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.fault(10)
def test_a_file_with_less_sound_than_one_input_has_features(name, tmp_path):
    encoder = create(name, **SETTINGS[name])
    silence = encoder.encode(encoder.prepare(torch.zeros(SEGMENTS * 16_000), 16_000, SEGMENTS, 1.0))
    for seconds in SHORT[name]:
        path = write_clip(tmp_path / "short.mkv", seconds=SEGMENTS, audio_seconds=seconds, audio_codec="pcm_s16le")
        clip = decode_clip(path, start=0.0, segments=SEGMENTS, segment_seconds=1.0, settings=MediaSettings(frames_per_second=1))
        assert (clip.status, clip.audio_valid.tolist(), clip.visual_valid.all()) == ("padded", [seconds > 0.5, False], True)
        assert not np.any(clip.waveform[round(seconds * clip.sample_rate) :])
        with torch.inference_mode():
            rows = encoder.prepare(torch.from_numpy(clip.waveform), clip.sample_rate, SEGMENTS, 1.0)
            features = encoder.encode(rows)
        assert features.shape == (SEGMENTS, *encoder.output_shape)
        assert torch.isfinite(features).all()
        assert not torch.allclose(features[0], silence[0], rtol=1e-3, atol=1e-6), "what little there is counts"
        if seconds < 0.95:  # VGGish's second example begins at 0.96 s
            torch.testing.assert_close(features[1], silence[1], rtol=1e-4, atol=1e-5)  # the second that is padding is silence


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("segment_seconds", [0.1, 0.3])
@pytest.mark.fault(10)
def test_segments_shorter_than_one_input_have_features_each(name, segment_seconds):
    encoder = create(name, **SETTINGS[name], **({"hop": 1.0} if name == "vggish" else {}))
    wave = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, round(3 * segment_seconds * 16_000)).astype(np.float32))
    with torch.inference_mode():
        features = encoder.encode(encoder.prepare(wave, 16_000, 3, segment_seconds))
    assert features.shape == (3, *encoder.output_shape)
    assert torch.isfinite(features).all()
