"""Write pictures and sound piece by piece as an MP4 (H.264, AAC) that browsers play.

Sound of any rate is resampled as it comes, so the pieces of one movie join without a click.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.publish import replacing

# One thread: with more, x264's division of the work depends on the machine. Even so its look-ahead (B-frames, macroblock tree) changed the
# bytes of one clip in three between calls (measured: 2 or 3 outcomes of 4 calls in one process; with these options, 1 of 12).
ONE_OUTCOME = {"threads": "1", "x264-params": "cpu-independent=1:bframes=0:mbtree=0:rc-lookahead=0"}


@dataclass(frozen=True)
class Form:
    """How a movie is encoded.

    crf: x264's constant rate factor; lower is better and larger.
    sound_rate: Hz.
    sound_bits: bits per second of the AAC stream.
    repeatable: give the same bytes every time, at the cost of a larger file and a single thread.
    """

    crf: int
    sound_rate: int
    sound_bits: int
    repeatable: bool


@dataclass(frozen=True)
class Scene:
    """A piece of a movie. Letters: F frames, L samples.

    pictures: F arrays (H, W, 3) uint8 RGB, of one size throughout a movie, both sides even.
    waveform: (L,) float32 in [-1, 1], mono, at ``sample_rate`` Hz, as long as the pictures.
    """

    pictures: Iterable[np.ndarray]
    waveform: np.ndarray
    sample_rate: int


def write_movie(path: Path, scenes: Iterable[Scene], frames_per_second: Fraction, form: Form) -> None:
    """Write the scenes one after another. Memory holds one scene."""
    # "bitexact" keeps library versions and the time of writing out of the file
    options = {"movflags": "+faststart", **({"fflags": "+bitexact"} if form.repeatable else {})}
    with replacing(path) as partial, av.open(str(partial), "w", format="mp4", options=options) as container:
        _Movie(container, frames_per_second, form).write(scenes)


def write_clip(path: Path, frames: np.ndarray, video_rate: int, waveform: np.ndarray, sample_rate: int) -> None:
    """Write one short clip, the same bytes every time.

    Args:
        frames: (F, H, W, 3) uint8 RGB, at ``video_rate`` per second.
        waveform: (L,) float32 in [-1, 1], mono, at ``sample_rate`` per second, as long as the frames.
    """
    form = Form(crf=20, sound_rate=sample_rate, sound_bits=64_000, repeatable=True)
    write_movie(path, [Scene(frames, waveform, sample_rate)], Fraction(video_rate), form)


class _Movie:
    """The streams of one movie, and how far each is written."""

    def __init__(self, container: av.container.OutputContainer, frames_per_second: Fraction, form: Form) -> None:
        self.container, self.rate, self.sound_rate = container, frames_per_second, form.sound_rate
        self.video = container.add_stream("libx264", rate=frames_per_second)
        self.video.pix_fmt = "yuv420p"
        repeatable = {"g": str(round(frames_per_second)), **ONE_OUTCOME} if form.repeatable else {}
        self.video.options = {"preset": "veryfast", "crf": str(form.crf), **repeatable}
        self.audio = container.add_stream("aac", rate=form.sound_rate)
        self.audio.layout, self.audio.bit_rate = "mono", form.sound_bits
        if form.repeatable:
            self.audio.codec_context.thread_count = 1
        self.frames, self.samples = 0, 0
        self.resampler: av.AudioResampler | None = None
        self.source_rate = 0  # Hz, of the sound that the resampler takes
        self.begun, self.given = 0, 0  # samples written before this resampler, and given to it

    def write(self, scenes: Iterable[Scene]) -> None:
        for scene in scenes:
            for picture in scene.pictures:
                self._picture(picture)
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
        """Write the sound up to the last picture, cut or padded with silence, so that the two never drift apart."""
        if self.source_rate != sample_rate:
            self._resampled(None)
            self.resampler, self.source_rate = av.AudioResampler(format="fltp", layout="mono", rate=self.sound_rate), sample_rate
            self.begun, self.given = self.samples, 0
        due = round((self.frames / self.rate - Fraction(self.begun, self.sound_rate)) * sample_rate) - self.given
        padded = np.zeros(max(0, due), np.float32)
        padded[: len(waveform)] = waveform[: len(padded)]
        if len(padded):
            frame = av.AudioFrame.from_ndarray(padded[None], format="fltp", layout="mono")
            # with a time stamp the encoder's lead-in of 1024 samples is placed before zero; without, all sound comes 1024 samples late
            frame.sample_rate, frame.time_base, frame.pts = sample_rate, Fraction(1, sample_rate), self.given
            self.given += len(padded)
            self._resampled(frame)

    def _resampled(self, frame: av.AudioFrame | None) -> None:
        """Resample a frame and write it; None empties the resampler."""
        if self.resampler is None:
            return
        for piece in self.resampler.resample(frame):
            if piece is not None and piece.samples:
                piece.pts, piece.time_base = self.samples, Fraction(1, self.sound_rate)
                self.samples += piece.samples
                self.container.mux(self.audio.encode(piece))
