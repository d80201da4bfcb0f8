"""Decode one stream of a file into frames with their times, past every damaged packet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from pipeline.media.container import MediaError, demuxed, describe, open_container
from pipeline.media.timeline import Track

UNTIMED_SECONDS = 1.0  # largest distance of frames timed by their rate from the next stated time
SEEK_FROM = 5.0  # seconds; a window that starts earlier is reached faster by decoding from the start
TICK = 5e-4  # seconds; half a tick of Matroska's millisecond clock, the coarsest in common use: times closer than this are equal


@dataclass
class Packets:
    """Times and errors of the packets read, in the order of the file.

    due: when each packet is due, in seconds on the clip's clock.
    lasting: its stated duration in seconds; 0 where none is stated.
    errors: the errors met, one line each.
    """

    due: list[float] = field(default_factory=list)
    lasting: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def clear(self) -> None:
        self.due.clear()
        self.lasting.clear()
        self.errors.clear()

    @property
    def times(self) -> np.ndarray:
        """(P,) seconds, ascending: when the packets are due."""
        return np.sort(np.asarray(self.due, dtype=np.float64))

    def note(self, packet: Any, seconds: Callable[[int], float], clock: float) -> None:
        self.due.append(seconds(packet.pts) - clock)
        self.lasting.append(seconds(packet.duration or 0))

    @property
    def interval(self) -> float:
        """Median time between packets in seconds; 0 with fewer than two."""
        return float(np.median(np.diff(np.unique(self.due)))) if len(set(self.due)) > 1 else 0.0


def in_seconds(time_base: Fraction) -> Callable[[int], float]:
    """Return the function that turns ticks of a stream's clock into seconds.

    It equals ``float(ticks * time_base)`` to the last bit, without a new Fraction for every packet.
    """
    numerator, denominator = time_base.numerator, time_base.denominator
    return lambda ticks: ticks * numerator / denominator


def decoded_frames(
    path: str | os.PathLike[str], index: int, clock: float, start: float, interval: float, packets: Packets, track: Track | None = None
) -> Iterator[tuple[float, Any]]:
    """Yield (time, frame) of stream ``index`` in presentation order, from the frame shown at ``start`` or earlier on.

    Packets that do not decode are noted in ``packets`` and skipped. ``interval`` (seconds) times frames that carry no time.
    ``track`` gives the jumps of the stream's clock, where its packets were read.

    Raises:
        MediaError: the file cannot be opened, or many of its frames carry no time.
    """
    bent = track if track is not None and not track.plain else None
    if start > SEEK_FROM and bent is None:  # a seek uses the times that are yet to be corrected
        frames = _frames_from(path, index, clock, start, interval, packets, None)
        first = next(frames, None)
        if first is not None and first[0] <= start + TICK:
            yield first
            yield from frames
            return
        packets.clear()  # the seek led past the start, or nowhere: decode from the beginning
    yield from _frames_from(path, index, clock, None, interval, packets, bent)


def _frames_from(
    path: str | os.PathLike[str], index: int, clock: float, seek_to: float | None, interval: float, packets: Packets, bent: Track | None
) -> Iterator[tuple[float, Any]]:
    with open_container(path) as container:
        stream = container.streams[index]
        stream.thread_type = "NONE"  # one core per child process; frame threads also delay errors past the packet they belong to
        stream.codec_context.thread_count = 1
        # Without it FFmpeg conceals damaged pictures silently.
        stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        if seek_to is not None:
            try:
                container.seek(int((seek_to + clock) / stream.time_base), stream=stream)
            except av.error.FFmpegError:
                return
        seconds = in_seconds(stream.time_base)
        upcoming, latest, untimed = 0.0, None, 0
        for number, packet in enumerate(demuxed(container, stream, packets.errors)):
            if bent is not None:
                if number in bent.strays:
                    packets.errors.append(f"packet {number} of the {stream.type} is off the clock")
                bent.straighten(number, packet, stream.time_base)
            if packet.pts is not None and not packet.size and latest is not None and not stream.codec_context.has_b_frames:
                # An empty packet repeats the picture (Theora); to FFmpeg's decoders it would be an error.
                packets.note(packet, seconds, clock)
                yield seconds(packet.pts) - clock, latest
                continue
            if packet.pts is not None and packet.size and not packet.is_discard:
                packets.note(packet, seconds, clock)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                packets.errors.append(describe(error))
                continue
            for frame in frames:
                moment = upcoming if frame.pts is None else seconds(frame.pts) - clock
                if untimed and abs(moment - upcoming) > UNTIMED_SECONDS:
                    raise MediaError("unreadable", f"{untimed} frames without a time end {abs(moment - upcoming):.3g} s off the next one's")
                untimed = untimed + 1 if frame.pts is None else 0
                upcoming = moment + (seconds(frame.duration) if frame.duration else interval)
                latest = frame if stream.type == "video" else None
                yield moment, frame


def packet_times(path: str | os.PathLike[str], index: int, clock: float, until: float) -> Packets:
    """The packets of a stream up to ``until`` seconds (and about a second more, at least the first), without decoding."""
    found = Packets()
    with open_container(path) as container:
        stream = container.streams[index]
        seconds = in_seconds(stream.time_base)
        for packet in demuxed(container, stream, []):
            if packet.pts is None or not packet.size or packet.is_discard:
                continue
            found.note(packet, seconds, clock)
            decode_time = packet.dts if packet.dts is not None else packet.pts
            if seconds(decode_time) - clock > until + 1.0:  # frames are stored at most about a second out of order
                break
    return found
