"""A video written piece by piece: pictures, sound and a line of text below, as an MP4 (H.264, AAC) that browsers play.

Sound of any rate is resampled as it comes, so that pieces of one file join without a click.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from pipeline.publish import replacing

SOUND_RATE = 44100  # Hz
BAND = 0.14  # height of the band of text, as a share of the picture's
FAINTEST_BAND = 26  # pixels


@dataclass(frozen=True)
class Scene:
    """A piece of the film. Letters: F frames, L samples.

    pictures: (F, H, W, 3) uint8, all scenes of a film of one size.
    captions: F lines of text.
    waveform: (L,) float32 in [-1, 1] at ``sample_rate`` Hz, as long as the pictures.
    """

    pictures: np.ndarray
    captions: list[str]
    waveform: np.ndarray
    sample_rate: int


def write_film(path: Path, scenes: Iterable[Scene], frames_per_second: Fraction) -> None:
    """Write the scenes one after another. Memory holds one scene."""
    with (
        replacing(path) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        _Film(container, frames_per_second).write(scenes)


class _Film:
    """The streams of one film, and how far each has come."""

    def __init__(self, container: av.container.OutputContainer, frames_per_second: Fraction) -> None:
        self.container, self.rate = container, frames_per_second
        self.video = container.add_stream("libx264", rate=frames_per_second)
        self.video.pix_fmt = "yuv420p"
        self.video.options = {"preset": "veryfast", "crf": "23"}
        self.audio = container.add_stream("aac", rate=SOUND_RATE)
        self.audio.layout, self.audio.bit_rate = "mono", 96_000
        self.frames, self.samples = 0, 0
        self.resampler: av.AudioResampler | None = None
        self.source_rate = 0  # Hz, of the sound that the resampler takes
        self.begun, self.given = 0, 0  # samples written before this resampler, and given to it

    def write(self, scenes: Iterable[Scene]) -> None:
        for scene in scenes:
            for picture, caption in zip(scene.pictures, scene.captions, strict=True):
                self._picture(captioned(picture, caption))
            self._sound(scene.waveform, scene.sample_rate)
        self._resampled(None)
        self.container.mux(self.video.encode(None))
        self.container.mux(self.audio.encode(None))

    def _picture(self, picture: np.ndarray) -> None:
        if self.frames == 0:
            self.video.height, self.video.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = self.frames, 1 / self.rate
        self.frames += 1
        self.container.mux(self.video.encode(frame))

    def _sound(self, waveform: np.ndarray, sample_rate: int) -> None:
        """The sound up to the last picture: what is too long is cut, what is missing is silence, so that the two never drift apart."""
        if self.source_rate != sample_rate:
            self._resampled(None)
            self.resampler, self.source_rate = av.AudioResampler(format="fltp", layout="mono", rate=SOUND_RATE), sample_rate
            self.begun, self.given = self.samples, 0
        due = round((self.frames / self.rate - Fraction(self.begun, SOUND_RATE)) * sample_rate) - self.given
        padded = np.zeros(max(0, due), np.float32)
        padded[: len(waveform)] = waveform[: len(padded)]
        if len(padded):
            frame = av.AudioFrame.from_ndarray(padded[None], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = sample_rate, Fraction(1, sample_rate), self.given
            self.given += len(padded)
            self._resampled(frame)

    def _resampled(self, frame: av.AudioFrame | None) -> None:
        """Through the resampler into the file; None empties the resampler."""
        if self.resampler is None:
            return
        for piece in self.resampler.resample(frame):
            if piece is not None and piece.samples:
                piece.pts, piece.time_base = self.samples, Fraction(1, SOUND_RATE)
                self.samples += piece.samples
                self.container.mux(self.audio.encode(piece))


def captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 with the text in a band below it; both sides even, as H.264's colour format needs them."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    band = max(FAINTEST_BAND, round(height * BAND / 2) * 2)
    return np.concatenate([picture[:height, :width], _band(caption, width, band)])


@lru_cache(maxsize=64)
def _band(text: str, width: int, height: int) -> np.ndarray:
    """White text on black, smaller where it is long: (height, width, 3) uint8."""
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    face = font_manager.findfont("DejaVu Sans")  # comes with matplotlib
    size = round(height * 0.5)
    font = ImageFont.truetype(face, size)
    while size > 8 and pen.textlength(text, font=font) > width - 12:
        size -= 1
        font = ImageFont.truetype(face, size)
    pen.text((6, height / 2), text, fill="white", font=font, anchor="lm")
    return np.asarray(image)
