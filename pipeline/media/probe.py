"""Read what a file states, before anything is decoded: container, streams, clock, orientation.

All times are seconds on the clip's common clock, whose zero is the container's start: a stream that starts late keeps its delay,
so that sound and picture stay aligned (start offsets and edit lists are resolved by FFmpeg's demuxers into presentation times).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import av.error

from pipeline.media.container import CLOCK_MAY_JUMP, MediaError, fragments, open_container
from pipeline.media.orientation import orientation
from pipeline.media.settings import MediaSettings
from pipeline.media.timeline import Track, read_tracks

# These state no duration: FFmpeg guesses one from the bit rate, which can be wrong by any factor.
GUESSED_DURATION = frozenset({"mpegvideo", "h264", "hevc", "m4v", "mp3", "aac", "ac3", "eac3", "amr"})
FALLBACK_RATE = Fraction(25)  # frames per second of a stream that states none
SLACK_SECONDS = 0.1  # encoder delay and rounded headers: a stream that ends before its stated end by less is whole


@dataclass(frozen=True)
class VideoStream:
    """The video stream that players show.

    width, height: pixels as coded, before ``orientation`` is applied.
    rate: frames per second, averaged.
    start, duration: seconds; duration is None where the container states none.
    choice: which of the file's usable streams it is ("1 of 2").
    track: the times of its packets, where they were read.
    """

    index: int
    codec: str
    width: int
    height: int
    pixel_format: str | None
    rate: float
    start: float
    duration: float | None
    orientation: tuple[int, bool] = (0, False)
    choice: str = "1 of 1"
    track: Track | None = None

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
    """The audio stream that players play; ``rate`` in Hz, all else as in :class:`VideoStream`."""

    index: int
    codec: str
    rate: int
    channels: int
    start: float
    duration: float | None
    choice: str = "1 of 1"
    track: Track | None = None


Stream = TypeVar("Stream", VideoStream, AudioStream)


@dataclass(frozen=True)
class Probe:
    """A file's header.

    clock: the container time in seconds that counts as 0.
    duration: seconds; None where nothing states it.
    """

    path: str
    container: str
    clock: float
    duration: float | None
    video: VideoStream | None
    audio: AudioStream | None


def probe(path: str | os.PathLike[str], settings: MediaSettings | None = None) -> Probe:
    """Read the header of ``path``.

    Decodes one frame, after the limits of ``settings`` are checked, because only frames carry the display matrix.

    Raises:
        MediaError: ``missing``, ``unreadable`` (no media container, no stream in it, or a damaged clock) or ``refused`` (beyond a limit).
    """
    limits = settings or MediaSettings()
    with open_container(path) as container:
        clock = (container.start_time or 0) / av.time_base
        name = container.format.name
        duration = None if name in GUESSED_DURATION or container.duration is None else max(0.0, container.duration / av.time_base)
        may_jump = bool(container.format.flags & CLOCK_MAY_JUMP)
        if not may_jump:  # else the last time stamp means nothing before the jumps are known
            _check_length(duration, limits)
        if not len(container.streams):
            raise MediaError("unreadable", f"the {name} container holds no stream")
        video = preferred(container.streams.video, [_video_stream(stream, clock, name) for stream in container.streams.video])
        audio = preferred(container.streams.audio, [_audio_stream(stream, clock, name) for stream in container.streams.audio])
        if video is not None:
            _check_size(video, limits)
        found = Probe(str(Path(path)), name, clock, duration, video, audio)
        if not name.startswith("mov,") or fragments(path)[0]:  # an MP4 file without fragments has one table of packet times
            found = _by_packets(found, may_jump)
            _check_length(found.duration, limits)
        if found.video is not None:
            _check_clock(path, container, found.video)
            found = replace(found, video=_oriented(container, found.video))
    return found


def preferred(streams: Any, usable: Sequence[Stream | None]) -> Stream | None:
    """The first usable stream marked as default, as players choose, else the first usable one."""
    kept = [(stream, facts) for stream, facts in zip(streams, usable, strict=True) if facts is not None]
    marked = [number for number, (stream, _) in enumerate(kept) if stream.disposition & av.stream.Disposition.default]
    if not kept:
        return None
    number = marked[0] if marked else 0
    return replace(kept[number][1], choice=f"{number + 1} of {len(kept)}")


def _by_packets(found: Probe, may_jump: bool) -> Probe:
    """Add what only packets show: the parts of a joined file, the length of a file whose clock starts late."""
    streams = [stream for stream in (found.video, found.audio) if stream is not None]
    tracks = read_tracks(found.path, tuple(stream.index for stream in streams)) if streams else {}
    if not tracks:
        return found
    joined = any(len(track.parts) > 1 for track in tracks.values())
    clock = min(track.start for track in tracks.values()) if joined else found.clock
    reached = max(track.end for track in tracks.values()) - clock
    duration = found.duration
    stated = not (found.container.startswith("mov,") or may_jump)  # by a header; for the others FFmpeg measures the length itself
    if joined:
        duration = reached
    elif stated:
        duration = _meant(duration, clock, reached)
        if duration is not None and duration < reached - SLACK_SECONDS:  # as after ``cat a.avi b.avi``
            duration = reached

    def told(stream: Stream | None) -> Stream | None:
        track = None if stream is None else tracks.get(stream.index)
        if stream is None or track is None:
            return stream
        if joined:
            return replace(stream, track=track, start=track.start - clock, duration=track.end - track.start)
        if not stated or stream.duration is None or clock <= SLACK_SECONDS:
            return replace(stream, track=track)
        end = _meant(stream.start + stream.duration, clock, track.end - clock)
        return replace(stream, track=track, duration=max(0.0, (end or 0.0) - stream.start))

    return replace(found, clock=clock, duration=duration, video=told(found.video), audio=told(found.audio))


def _meant(stated: float | None, clock: float, reached: float) -> float | None:
    """The stated end, in seconds on the clip's clock, of a file whose clock starts at ``clock``.

    Some muxers count it from zero, others from the first time stamp; in both cases no packet lies beyond it (``reached``).
    """
    if stated is None or clock <= SLACK_SECONDS or stated - clock < reached - SLACK_SECONDS:
        return stated
    return stated - clock


def _check_length(duration: float | None, limits: MediaSettings) -> None:
    if duration is not None and duration > limits.max_seconds:
        raise MediaError("refused", f"lasts {duration:.0f} s, over media.max_seconds = {limits.max_seconds:g}")


def _check_size(video: VideoStream, limits: MediaSettings) -> None:
    if video.width * video.height > limits.max_pixels:
        raise MediaError("refused", f"frames of {video.width}x{video.height} pixels, over media.max_pixels = {limits.max_pixels}")


def _check_clock(path: str | os.PathLike[str], container: Any, video: VideoStream) -> None:
    """Refuse a damaged clock, by which the pictures far outlast the file: one picture would stand for seconds."""
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


def _video_stream(stream: Any, clock: float, container: str) -> VideoStream | None:
    """Facts of a video stream; None for cover art, thumbnails, and streams without a decoder or a picture size."""
    context = stream.codec_context
    stills = av.stream.Disposition.attached_pic | av.stream.Disposition.still_image | av.stream.Disposition.timed_thumbnails
    if context is None or stream.disposition & stills or context.width < 1 or context.height < 1:
        return None
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate or FALLBACK_RATE
    start, duration = _extent(stream, clock, container)
    return VideoStream(stream.index, context.name, context.width, context.height, context.pix_fmt, float(rate), start, duration)


def _audio_stream(stream: Any, clock: float, container: str) -> AudioStream | None:
    """Facts of an audio stream; None where there is no decoder, rate or channel."""
    context = stream.codec_context
    if context is None or context.sample_rate < 1 or context.channels < 1:
        return None
    start, duration = _extent(stream, clock, container)
    return AudioStream(stream.index, context.name, context.sample_rate, context.channels, start, duration)


def _extent(stream: Any, clock: float, container: str) -> tuple[float, float | None]:
    """Start on the common clock and duration of a stream, in seconds.

    Matroska keeps the duration of a stream in a tag, if at all.
    """
    start = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - clock
    # FFmpeg gives a Matroska stream that it cannot time, such as a single picture, the container's length.
    if stream.duration and container not in GUESSED_DURATION and container != "matroska,webm":
        return start, float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = tag.strip("\0 ").split(":")
        return start, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - max(0.0, start)
    except ValueError:
        return start, None


def _oriented(container: Any, video: VideoStream) -> VideoStream:
    """Add the orientation of the first decodable frame; upright where none decodes (the decoder reports that)."""
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
