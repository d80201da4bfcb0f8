"""Files of odd make, read by each decoder: the picture of the moment, upright, to a frame; the sound as mono floats in its place."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media.audio import read_audio
from pipeline.media.clip import decode_clip
from pipeline.media.container import MediaError
from pipeline.media.probe import probe
from pipeline.media.settings import MediaSettings
from pipeline.media.video import read_frames
from tests.media.conftest import rewrap

UNEVEN = [0.0, 0.04, 0.08, 0.12, 0.5, 0.9, 1.3, 1.34, 1.38, 1.7]  # seconds at which the pictures of a variable rate come
FPS = 10


def shifted(make_clip, name: str, seconds: float) -> Path:
    """A file whose clock starts at ``seconds``, sound and picture alike."""
    source = make_clip("plain.mp4", seconds=2.0)
    return rewrap(source, source.with_name(name), shift=lambda *_: seconds)


def edited(make_clip, seconds: float) -> Path:
    """An MP4 whose first pictures lie before its start: an edit list hides them, as cutting without encoding leaves it."""
    source = make_clip("uncut.mp4", seconds=4.0, audio_codec=None)
    return rewrap(source, source.with_name("edited.mp4"), shift=lambda *_: -seconds, avoid_negative_ts="disabled")


def high_dynamic_range(make_clip, name: str) -> Path:
    """Ten bits, said to be of BT.2020 on the curve of SMPTE ST 2084, as telephones film (ITU-T H.273 has the numbers)."""
    source = make_clip("ten_bits.mp4", seconds=2.0, pixel_format="yuv420p10le", audio_codec=None)
    target = source.with_name(name)
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        copy = writer.add_stream_from_template(video)
        copy.codec_context.color_primaries, copy.codec_context.color_trc, copy.codec_context.colorspace = 9, 16, 9
        for packet in reader.demux(video):
            if packet.dts is not None:
                packet.stream = copy
                writer.mux(packet)
    return target


MAKES = {
    "variable rate, mp4": lambda make: make("vfr.mp4", times=UNEVEN, fps=25, audio_codec=None),
    "variable rate, mkv": lambda make: make("vfr.mkv", times=UNEVEN, fps=25, audio_codec=None),
    "rotated": lambda make: make("turned.mp4", seconds=2.0, rotation=180, audio_codec=None),
    "odd sizes": lambda make: make("odd.mkv", seconds=2.0, pixel_format="yuv444p", size=(51, 77), audio_codec=None),
    "high dynamic range": lambda make: high_dynamic_range(make, "hdr.mp4"),
    "full chroma": lambda make: make("chroma.mp4", seconds=2.0, pixel_format="yuv444p", audio_codec=None),
    "late start, mkv": lambda make: shifted(make, "late.mkv", 1.5),
    "late start, ts": lambda make: shifted(make, "late.ts", 1.5),
    "edit list": lambda make: edited(make, 0.7),
}
REFUSED = {"late start, ts": "duplicate frame", "edit list": "it counts pictures from -0.700 s"}  # by decord, whose account is checked
FIRST = {"edit list": 7}  # number of the picture at the clip's start, where it is not 0


def expected(make: str, times: np.ndarray) -> list[int]:
    """Numbers of the pictures that are on at these seconds."""
    if make.startswith("variable"):
        return [max(number for number, begin in enumerate(UNEVEN) if begin <= time + 5e-4) for time in times]
    return [FIRST.get(make, 0) + int(time * FPS + 1e-6) for time in times]


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.fault(7)
def test_both_decoders_show_the_picture_of_the_moment_to_a_frame(make_clip, number_of, make):
    """PyAV shows the exact picture; decord shows one at most a frame off, or is refused."""
    path = MAKES[make](make_clip)
    late = 0.064 if make.startswith("late") else 0.0  # by so much the sound of AAC begins before the picture, and the clip with it
    times = np.arange(0.05, 1.7, 0.13)
    wanted = expected(make, np.maximum(times - late, 0))
    for decoder in ("pyav", "decord"):
        if decoder == "decord" and make in REFUSED:
            with pytest.raises(MediaError, match=f"decord: .*{REFUSED[make]}"):
                read_frames(path, times, probe(path), decoder)
            continue
        frames = read_frames(path, times, probe(path), decoder)
        upright = frames.images[:, ::-1, ::-1] if make == "rotated" else frames.images
        shown = [int(number_of(image)) for image in upright]
        off = np.abs(np.array(shown) - wanted)
        assert off.max() <= (0 if decoder == "pyav" else 1), (decoder, shown, wanted)
        assert frames.images.dtype == np.uint8


@pytest.mark.fault(7)
def test_high_dynamic_range_is_read(make_clip):
    """No tone mapping, as in the papers' own extraction: the curve is taken as it is, and pictures are eight bits deep."""
    path = MAKES["high dynamic range"](make_clip)
    with av.open(str(path)) as reader:
        context = reader.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.pix_fmt) == (9, 16, "yuv420p10le")
    clip = decode_clip(path, start=0.0, segments=2, segment_seconds=1.0, settings=MediaSettings())
    assert (clip.status, clip.frames.dtype, clip.visual_valid.tolist()) == ("silent", np.uint8, [True, True])


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 96_000, 192_000])
@pytest.mark.fault(7)
def test_sound_of_any_rate_and_layout_is_one_channel_of_floats(make_clip, rate, layout):
    path = make_clip("a.mkv", seconds=1.0, codec=None, audio_codec="pcm_s16le", rate=rate, layout=layout)
    audio = read_audio(path, probe(path), 0.0, 1.0)
    assert (audio.sample_rate, audio.waveform.shape, audio.waveform.dtype) == (rate, (rate,), np.float32)
    assert audio.covered.all()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    assert np.abs(audio.waveform - tone).max() < 1e-3  # of 16 bits
