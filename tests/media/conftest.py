"""Media files made on the spot: every picture carries its own number as eight black or white stripes, so a decoded one can be named."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 8


def numbered(number: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: vertical stripes, least significant bit first; the top quarter is dark red, so that "up" can be told."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        image[:, bit * width // BITS : (bit + 1) * width // BITS] = 235 if number >> bit & 1 else 16
    image[: height // 4] = (140, 0, 0)
    return image


def read_number(image: np.ndarray) -> int:
    height, width = image.shape[:2]
    strip = image[height // 2 : -height // 8].astype(float).mean(axis=(0, 2))
    edges = [bit * width // BITS for bit in range(BITS + 1)]
    return sum((strip[edges[bit] + 1 : edges[bit + 1] - 1].mean() > 125) << bit for bit in range(BITS))


def write_clip(
    path: Path,
    *,
    seconds: float = 4.0,
    fps: float = 10.0,
    size: tuple[int, int] = (96, 128),
    times: list[float] | None = None,
    codec: str | None = "libx264",
    pixel_format: str = "yuv420p",
    audio_seconds: float | None = None,
    audio_start: float = 0.0,
    rate: int = 16000,
    layout: str = "mono",
    audio_codec: str | None = "aac",
    waveform: Callable[[np.ndarray], np.ndarray] | None = None,
    rotation: int = 0,
    fast_start: bool = False,
    first_number: int = 0,
    time_base: int = 1000,
) -> Path:
    """A clip with numbered pictures at ``times`` (default every 1/fps) and a tone; a codec of None leaves that stream out."""
    options = {"movflags": "faststart"} if fast_start else {}
    with av.open(str(path), "w", options=options) as container:
        video = audio = None
        if codec:
            video = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            video.height, video.width = size
            video.pix_fmt = pixel_format
            video.codec_context.time_base = Fraction(1, time_base)
            if codec == "libx264":
                video.options = {"crf": "12", "preset": "ultrafast", "g": "12", "bf": "2"}
            if rotation:
                video.set_display_rotation(rotation)
        if audio_codec:
            audio = container.add_stream(audio_codec, rate=rate, layout=layout)
        moments = times if times is not None else [index / fps for index in range(round(seconds * fps))]
        if video is not None:
            for number, moment in enumerate(moments, first_number):
                frame = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
                frame.pts, frame.time_base = round(moment * time_base), Fraction(1, time_base)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None:
            length = round((seconds if audio_seconds is None else audio_seconds) * rate)
            clock = np.arange(length) / rate
            sound = (waveform or (lambda t: 0.5 * np.sin(2 * np.pi * 440 * t)))(clock).astype(np.float32)
            channels = audio.codec_context.channels
            for begin in range(0, length, 1024):
                block = np.repeat(sound[None, begin : begin + 1024], channels, axis=0)
                name = audio.codec_context.format.name
                data = block if name.startswith("flt") else (block * 32767).astype(np.int16)
                packed = data if name.endswith("p") else np.ascontiguousarray(data.T.reshape(1, -1))
                piece = av.AudioFrame.from_ndarray(packed, format=name, layout=layout)
                piece.sample_rate, piece.pts, piece.time_base = rate, begin + round(audio_start * rate), Fraction(1, rate)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def rewrap(
    source: Path,
    target: Path,
    *,
    shift: Callable[[int, float], float] = lambda index, moment: 0.0,
    keep: Callable[[int, float], bool] = lambda index, moment: True,
    **options: str,
) -> Path:
    """``target`` with the packets of ``source`` that ``keep`` (stream index, seconds) accepts, each moved by ``shift`` seconds."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options) as writer:
        streams = {stream.index: writer.add_stream_from_template(stream) for stream in reader.streams}
        for packet in reader.demux():
            if packet.dts is None:
                continue
            index, moment = packet.stream.index, float(packet.pts * packet.time_base)
            if keep(index, moment):
                ticks = round(shift(index, moment) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, streams[index]
                writer.mux(packet)
    return target


def loudest(samples: np.ndarray, rate: int) -> int:
    """Frequency in Hz, to 20 Hz, of the strongest tone in ``samples``; 0 for silence."""
    if not len(samples) or np.abs(samples).max() < 1e-3:
        return 0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return round(float(spectrum.argmax()) * rate / len(samples) / 20) * 20


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "clip.mp4", **parts) -> Path:
        return write_clip(tmp_path / name, **parts)

    return make


@pytest.fixture
def number_of() -> Callable[[np.ndarray], int]:
    return read_number


@pytest.fixture(scope="session")
def sound_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s, 10 fps, with a tone; its index first, as files for the web have it."""
    return write_clip(tmp_path_factory.mktemp("media") / "sound.mp4", fast_start=True)
