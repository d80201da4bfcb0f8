"""What a file says it holds, read before anything is decoded: container, streams, clock, orientation.

All times are seconds on the clip's common clock, whose zero is the container's start: a stream that starts late keeps its delay,
so that sound and picture stay aligned (start offsets and edit lists are resolved by FFmpeg's demuxers into presentation times).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging

from pipeline.media.settings import MediaSettings

av.logging.set_level(None)  # FFmpeg's complaints about damaged files go to the clip's status, not to the terminal

# Demuxers that read one file and nothing else. Playlists (hls, concat, dash, sdp) would open other files or the network;
# picture and text "demuxers" would turn a renamed JPEG or page into a one-frame video.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpeg,mpegts,mpegvideo,h264,hevc,m4v,ivf,asf,nut,ogg,wav,w64,rf64,aiff,au,caf,"
    "flac,mp3,aac,ac3,eac3,amr,wv,ape,tta,dv,mxf,rm,swf,gif"
)
# These state no duration: FFmpeg guesses one from the bit rate, which can be wrong by any factor.
GUESSED_DURATION = frozenset({"mpegvideo", "h264", "hevc", "m4v", "mp3", "aac", "ac3", "eac3", "amr"})
FALLBACK_RATE = Fraction(25)  # frames per second of a stream that states none


class MediaError(Exception):
    """A clip that cannot be used: ``status`` is one of :data:`pipeline.media.clip.BAD`, ``reason`` one line."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = " ".join(reason.split())


@dataclass(frozen=True)
class VideoStream:
    """The first moving-picture stream. ``start`` and ``duration`` in seconds (None where the container does not say);
    ``width`` and ``height`` in pixels as coded, before ``orientation`` is applied; ``rate`` in frames per second, averaged."""

    index: int
    codec: str
    width: int
    height: int
    pixel_format: str | None
    rate: float
    start: float
    duration: float | None
    orientation: tuple[int, bool] = (0, False)

    @property
    def rotation(self) -> int:
        """Degrees, counter-clockwise, by which the decoded picture is turned to stand upright: 0, 90, 180 or 270."""
        return self.orientation[0]

    @property
    def mirrored(self) -> bool:
        """Whether the turned picture is also flipped left to right."""
        return self.orientation[1]

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) in pixels after rotation."""
        return (self.width, self.height) if self.rotation % 180 else (self.height, self.width)


@dataclass(frozen=True)
class AudioStream:
    """The first usable audio stream; ``start`` and ``duration`` in seconds, ``rate`` in Hz."""

    index: int
    codec: str
    rate: int
    channels: int
    start: float
    duration: float | None


@dataclass(frozen=True)
class Probe:
    """A file's header. ``clock`` is the container time in seconds that counts as 0; ``duration`` is None where nothing states it."""

    path: str
    container: str
    clock: float
    duration: float | None
    video: VideoStream | None
    audio: AudioStream | None


def open_container(path: str | os.PathLike[str], **options: str) -> Any:
    """PyAV container of a local media file.

    Args:
        options: of FFmpeg's demuxer.

    Raises:
        MediaError: ``missing`` or ``unreadable``.
    """
    # The absolute path starts with "/", so that a name like "concat:x" or "-i" is never taken for a protocol or an option.
    absolute = os.path.abspath(path)
    if not os.path.isfile(absolute):
        raise MediaError("missing", "no such file" if not os.path.exists(absolute) else "not a regular file")
    if os.path.getsize(absolute) == 0:
        raise MediaError("unreadable", "the file is empty (0 bytes)")
    options |= {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        return av.open(absolute, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError("unreadable", f"no readable media container: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """One short line for an exception of a decoder, without the path it repeats."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def probe(path: str | os.PathLike[str], settings: MediaSettings | None = None) -> Probe:
    """Header of ``path``; decodes one frame, after the limits of ``settings`` are checked, because only frames carry the display matrix.

    Raises:
        MediaError: ``missing``, ``unreadable`` (no media container, no stream in it, or a damaged clock of its pictures) or ``refused``
            (beyond a limit).
    """
    limits = settings or MediaSettings()
    with open_container(path) as container:
        clock = (container.start_time or 0) / av.time_base
        name = container.format.name
        duration = None if name in GUESSED_DURATION or container.duration is None else max(0.0, container.duration / av.time_base)
        if duration is not None and duration > limits.max_seconds:
            raise MediaError("refused", f"lasts {duration:.0f} s, over media.max_seconds = {limits.max_seconds:g}")
        if not len(container.streams):
            raise MediaError("unreadable", f"the {name} container holds no stream")
        stated = name not in GUESSED_DURATION
        video = next(filter(None, (_video_stream(stream, clock, stated) for stream in container.streams.video)), None)
        audio = next(filter(None, (_audio_stream(stream, clock, stated) for stream in container.streams.audio)), None)
        if video is not None:
            _check_size(video, limits)
            _check_clock(path, container, video)
            video = _oriented(container, video)
    return Probe(str(Path(path)), name, clock, duration, video, audio)


def _check_size(video: VideoStream, limits: MediaSettings) -> None:
    if video.width * video.height > limits.max_pixels:
        raise MediaError("refused", f"frames of {video.width}x{video.height} pixels, over media.max_pixels = {limits.max_pixels}")


def _check_clock(path: str | os.PathLike[str], container: Any, video: VideoStream) -> None:
    """Pictures that by their own clock outlast the file by far: a damaged clock, behind which one picture would stand for seconds."""
    lasting = container.streams[video.index].frames / video.rate
    if container.duration is None or not _outlasts(lasting, container.duration / av.time_base):
        return
    with open_container(path, ignore_editlist="1") as uncut:  # an edit list may leave little of many pictures
        stream = uncut.streams[video.index]
        whole = max((uncut.duration or 0) / av.time_base, float(stream.duration * stream.time_base) if stream.duration else 0.0)
        if _outlasts(lasting, whole):
            raise MediaError(
                "unreadable", f"the clock of the pictures is damaged: {stream.frames} of them last {lasting:.4g} s, the file {whole:.4g} s"
            )


def _outlasts(pictures: float, file: float) -> bool:
    return pictures > 1.5 * file + 1.0


def _video_stream(stream: Any, clock: float, stated: bool) -> VideoStream | None:
    """Facts of a video stream; None for cover art, thumbnails, and streams without a decoder or a picture size."""
    context = stream.codec_context
    stills = av.stream.Disposition.attached_pic | av.stream.Disposition.still_image | av.stream.Disposition.timed_thumbnails
    if context is None or stream.disposition & stills or context.width < 1 or context.height < 1:
        return None
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate or FALLBACK_RATE
    start, duration = _extent(stream, clock, stated)
    return VideoStream(stream.index, context.name, context.width, context.height, context.pix_fmt, float(rate), start, duration)


def _audio_stream(stream: Any, clock: float, stated: bool) -> AudioStream | None:
    """Facts of an audio stream; None where there is no decoder, rate or channel."""
    context = stream.codec_context
    if context is None or context.sample_rate < 1 or context.channels < 1:
        return None
    start, duration = _extent(stream, clock, stated)
    return AudioStream(stream.index, context.name, context.sample_rate, context.channels, start, duration)


def _extent(stream: Any, clock: float, stated: bool) -> tuple[float, float | None]:
    """Start on the common clock and duration, in seconds; Matroska keeps the duration of a stream in a tag, if at all."""
    start = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - clock
    if stream.duration and stated:
        return start, float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = tag.strip("\0 ").split(":")
        return start, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - max(0.0, start)
    except ValueError:
        return start, None


def _oriented(container: Any, video: VideoStream) -> VideoStream:
    """``video`` with the orientation its first decodable frame carries; upright where none decodes (the decoder will say so)."""
    stream = container.streams[video.index]
    stream.codec_context.thread_count = 1
    stream.thread_type = "NONE"
    for count, packet in enumerate(container.demux(stream)):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            frames = []
        if frames:
            return replace(video, orientation=orientation(frames[0]))
        if count > 64:
            break
    return video


def orientation(frame: Any) -> tuple[int, bool]:
    """(degrees counter-clockwise to turn, then whether to flip left to right) that stand a decoded frame upright.

    The display matrix (ISO 14496-12, 6.2.2; 16.16 fixed point, row vectors) maps a decoded pixel (x, y) to
    (a*x + c*y, b*x + d*y) with y downwards; cameras write one of its eight axis-aligned forms.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return 0, False
    a, b, _, c, d = struct.unpack("<5i", bytes(side_data)[:20])
    signs = tuple((value > 0) - (value < 0) for value in (a, b, c, d))
    return ORIENTATIONS.get(signs, (0, False))


ORIENTATIONS: dict[tuple[int, ...], tuple[int, bool]] = {
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (270, False),
    (-1, 0, 0, -1): (180, False),
    (0, -1, 1, 0): (90, False),
    (-1, 0, 0, 1): (0, True),
    (0, 1, 1, 0): (270, True),
    (1, 0, 0, -1): (180, True),
    (0, -1, -1, 0): (90, True),
}
