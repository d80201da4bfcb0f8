"""Copy the clips into a folder beside the page, so the page is portable and works without a network.

Files in a folder rather than data: URIs keep the page small, and a browser reads only what is played. A file that browsers can play
(H.264 or AV1/VP8/VP9 with AAC, MP3, Opus or Vorbis) keeps its packets, and with them the clip's own pictures and times. Any other file,
or one that is too large, becomes a smaller MP4 of the annotated window. Neither copy keeps metadata that a camera or an author wrote.
The work is done in child processes, because the files may be damaged.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pandas as pd

from pipeline.media.clip import decode_clip
from pipeline.media.container import MediaError, open_container
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.movie import write_clip
from pipeline.media.probe import probe
from pipeline.media.settings import MediaSettings

VIDEO = {"mp4": {"h264", "av1", "vp9"}, "webm": {"vp8", "vp9", "av1"}}
AUDIO = {"mp4": {"aac", "mp3", "opus"}, "webm": {"opus", "vorbis"}}
SMALLER = MediaSettings(frames_per_second=12, frame_size=240)
TIMEOUT_SECONDS = 90.0


@dataclass(frozen=True)
class MediaJob:
    """One clip's window: ``seconds`` from ``start`` in ``file``, to be written to ``target`` plus a suffix."""

    row: int
    file: str
    start: float
    seconds: float
    target: Path
    limit_bytes: float


def take_along(files: pd.DataFrame, seconds: float, megabytes: float, directory: Path) -> dict[int, dict[str, Any]]:
    """Copy the clips' files beside the page.

    Returns:
        For each annotation row {"src": path relative to the page, "offset": start of the window in that file in seconds}, or
        {"why": the reason there is no file}.

    Args:
        files: indexed by annotation row: file, start (as in the index).
    """
    (directory / "media").mkdir()
    there = files[files["file"].notna()]
    jobs = [
        MediaJob(int(row), file, float(start), seconds, directory / "media" / f"clip-{row:06d}", megabytes * 1e6)
        for row, file, start in zip(there.index, there["file"], there["start"], strict=True)
    ]
    media: dict[int, dict[str, Any]] = {int(row): {"why": "no file of this clip"} for row in files.index}
    for job, outcome in run_guarded(prepare, jobs, workers=2, timeout_seconds=TIMEOUT_SECONDS, memory_mb=SMALLER.memory_mb):
        media[job.row] = {"why": outcome.reason.replace(job.file, Path(job.file).name)} if isinstance(outcome, Failure) else outcome
    return media


def prepare(job: MediaJob) -> dict[str, Any]:
    """Copy the file or make a smaller one; runs in a child process."""
    if os.path.isdir(job.file):
        return {"why": "a folder of numbered pictures, which the page does not show"}
    family = playable_as(job.file)
    if family and os.path.getsize(job.file) <= job.limit_bytes:
        target = job.target.with_suffix(f".{family}")
        try:
            copy_streams(job.file, target)
            return {"src": f"media/{target.name}", "offset": job.start}
        except (MediaError, av.FFmpegError, OSError, ValueError):
            target.unlink(missing_ok=True)  # a damaged file; decoding may save more of it
    clip = decode_clip(job.file, start=job.start, segments=math.ceil(job.seconds), segment_seconds=1.0, settings=SMALLER)
    if clip.frames is None or clip.waveform is None:
        return {"why": clip.reason.replace(job.file, Path(job.file).name)}
    target = job.target.with_suffix(".mp4")
    height, width = (size // 2 * 2 for size in clip.frames.shape[1:3])  # H.264 in 4:2:0 needs even sides
    write_clip(target, clip.frames[:, :height, :width], round(SMALLER.frames_per_second), clip.waveform, clip.sample_rate)
    return {"src": f"media/{target.name}", "offset": 0.0}


def copy_streams(file: str, target: Path) -> None:
    """Copy the packets of the video and audio streams that are shown, and nothing else.

    Left out are place, author, date, comment, chapter, subtitle, cover, attachment and any track of positions.

    Raises:
        MediaError, av.FFmpegError, OSError, ValueError: the file cannot be read, or cannot be written unchanged.
    """
    found = probe(file)
    with open_container(file) as reader, av.open(str(target), "w", options={"fflags": "+bitexact"}) as writer:
        kept = [reader.streams[stream.index] for stream in (found.video, found.audio) if stream is not None]
        copies = {stream.index: writer.add_stream_from_template(stream, opaque=True) for stream in kept}
        for copy in copies.values():
            copy.metadata.clear()
        for packet in reader.demux(kept):
            if packet.is_discard and packet.pts is not None and float(packet.pts * packet.time_base) >= found.clock:
                raise ValueError("an edit list hides pictures in the middle, which a copy would show")
            if packet.size and (packet.dts is not None or packet.pts is not None):
                packet.stream = copies[packet.stream.index]
                writer.mux(packet)


def playable_as(file: str) -> str | None:
    """The family of a file that today's browsers can play, "mp4" or "webm"; None for any other file."""
    try:
        with open_container(file) as container:
            family = "webm" if Path(file).suffix.lower() == ".webm" else "mp4" if "mp4" in container.format.name.split(",") else None
            if family is None or not container.streams.video:
                return None
            video = container.streams.video[0].codec_context
            plain = video.pix_fmt in {"yuv420p", "yuvj420p"} and video.name.removeprefix("lib") in VIDEO[family] | {"dav1d", "dav1d_av1"}
            sounds = [stream.codec_context and stream.codec_context.name for stream in container.streams.audio]
            return family if plain and all(name in AUDIO[family] for name in sounds) else None
    except (MediaError, av.FFmpegError, OSError):
        return None
