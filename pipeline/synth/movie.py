"""Frames and waveform -> an MP4 file (H.264 and AAC), the same bytes every time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.publish import replacing

# One thread: with more, x264 cuts the work into pieces that depend on the machine. Even so its look-ahead (B-frames, macroblock tree) gave
# one clip in three other bytes from one call to the next (measured: 2 or 3 outcomes of 4 calls in one process; with these, 1 of 12).
REPEATABLE = "cpu-independent=1:bframes=0:mbtree=0:rc-lookahead=0"


def write_movie(path: Path, frames: NDArray[np.uint8], video_rate: int, waveform: NDArray[np.float32], audio_rate: int) -> None:
    """Write one movie.

    Args:
        frames: (F, H, W, 3) uint8 RGB, at ``video_rate`` per second.
        waveform: (L,) float32 in [-1, 1], mono, at ``audio_rate`` per second.
    """
    # "bitexact" keeps library versions and the time of writing out of the file
    options = {"fflags": "+bitexact", "movflags": "+faststart"}
    with replacing(path) as partial, av.open(str(partial), "w", format="mp4", options=options) as container:
        video = container.add_stream("libx264", rate=video_rate)
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.options = {"preset": "veryfast", "crf": "20", "threads": "1", "g": str(video_rate), "x264-params": REPEATABLE}
        audio = container.add_stream("aac", rate=audio_rate)
        audio.layout, audio.bit_rate = "mono", 64_000
        audio.codec_context.thread_count = 1
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        # with a time stamp the encoder's lead-in of 1024 samples is placed before zero; without, all sound comes 1024 samples late
        sound.sample_rate, sound.time_base, sound.pts = audio_rate, Fraction(1, audio_rate), 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
