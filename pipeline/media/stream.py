"""One stream of a file as decoded frames with their times, past every damaged packet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import av.error
import numpy as np

from pipeline.media.probe import describe, open_container

SEEK_FROM = 5.0  # seconds; a window that starts earlier is reached faster by decoding from the start
TICK = 5e-4  # seconds; half a tick of Matroska's millisecond clock, the coarsest in common use: times closer than this are equal
DEMUX_RETRIES = 16  # read errors of one file after which it counts as ended


@dataclass
class Packets:
    """What passed by while decoding: presentation times of all packets (seconds on the clip's clock) and the errors met."""

    due: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def clear(self) -> None:
        self.due.clear()
        self.errors.clear()

    @property
    def interval(self) -> float:
        """Median time between packets in seconds; 0 with fewer than two."""
        return float(np.median(np.diff(np.unique(self.due)))) if len(set(self.due)) > 1 else 0.0


def decoded_frames(
    path: str | os.PathLike[str], index: int, clock: float, start: float, interval: float, packets: Packets
) -> Iterator[tuple[float, Any]]:
    """(time, frame) of stream ``index`` in presentation order, from the frame shown at ``start`` or earlier to the end of the stream.

    Packets that do not decode are noted in ``packets`` and passed over. ``interval`` (seconds) numbers frames that carry no time.

    Raises:
        MediaError: the file cannot be opened.
    """
    if start > SEEK_FROM:
        frames = _frames_from(path, index, clock, start, interval, packets)
        first = next(frames, None)
        if first is not None and first[0] <= start + TICK:
            yield first
            yield from frames
            return
        packets.clear()  # the index led past the start, or nowhere: the honest way is from the beginning
    yield from _frames_from(path, index, clock, None, interval, packets)


def _frames_from(
    path: str | os.PathLike[str], index: int, clock: float, seek_to: float | None, interval: float, packets: Packets
) -> Iterator[tuple[float, Any]]:
    with open_container(path) as container:
        stream = container.streams[index]
        stream.thread_type = "NONE"  # one core per child process; frame threads also delay errors past the packet they belong to
        stream.codec_context.thread_count = 1
        # Without it FFmpeg conceals damaged pictures and says nothing.
        stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        if seek_to is not None:
            try:
                container.seek(int((seek_to + clock) / stream.time_base), stream=stream)
            except av.error.FFmpegError:
                return
        upcoming = 0.0
        for packet in _packets(container, stream, packets):
            if packet.pts is not None and packet.size and not packet.is_discard:
                packets.due.append(float(packet.pts * stream.time_base) - clock)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                packets.errors.append(describe(error))
                continue
            for frame in frames:
                moment = upcoming if frame.pts is None else float(frame.pts * stream.time_base) - clock
                upcoming = moment + (float(frame.duration * stream.time_base) if frame.duration else interval)
                yield moment, frame


def _packets(container: Any, stream: Any, packets: Packets) -> Iterator[Any]:
    """Packets of ``stream`` and the closing flush, going on after read errors, which FFmpeg's demuxers often recover from."""
    for _ in range(DEMUX_RETRIES):
        try:
            yield from container.demux(stream)
            return
        except av.error.FFmpegError as error:
            packets.errors.append(describe(error))


def packet_times(path: str | os.PathLike[str], index: int, clock: float, until: float) -> np.ndarray:
    """Presentation times (P,) in seconds, ascending, of a stream's packets up to ``until`` (at least the first), without decoding."""
    found: list[float] = []
    with open_container(path) as container:
        stream = container.streams[index]
        for packet in _packets(container, stream, Packets()):
            if packet.pts is None or not packet.size or packet.is_discard:
                continue
            found.append(float(packet.pts * stream.time_base) - clock)
            decode_time = packet.dts if packet.dts is not None else packet.pts
            if float(decode_time * stream.time_base) - clock > until + 1.0:  # frames are stored at most about a second out of order
                break
    times = np.sort(np.asarray(found, dtype=np.float64))
    return times[: max(1, int(np.searchsorted(times, until + TICK, "right")))]  # later ones may not all have been read
