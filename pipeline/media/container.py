"""Open local media files, which may be damaged or hostile, with FFmpeg's demuxers."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from typing import Any

import av
import av.error
import av.logging

av.logging.set_level(None)  # FFmpeg's complaints about damaged files go to the clip's status, not to the terminal

# Demuxers that read one file and nothing else. Playlists (hls, concat, dash, sdp) would open other files or the network;
# picture and text "demuxers" would turn a renamed JPEG or page into a one-frame video.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpeg,mpegts,mpegvideo,h264,hevc,m4v,ivf,asf,nut,ogg,wav,w64,rf64,aiff,au,caf,"
    "flac,mp3,aac,ac3,eac3,amr,wv,ape,tta,dv,mxf,rm,swf,gif"
)
DEMUX_RETRIES = 16  # read errors of one file after which it counts as ended
CLOCK_MAY_JUMP = 0x0200  # AVFMT_TS_DISCONT: streams made to be cut and joined (MPEG-TS, MPEG-PS, Ogg)


class MediaError(Exception):
    """A clip that cannot be used: ``status`` is one of :data:`pipeline.media.clip.BAD`, ``reason`` one line."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = " ".join(reason.split())


def open_container(path: str | os.PathLike[str], **options: str) -> Any:
    """Open a local media file as a PyAV container.

    Args:
        options: options of FFmpeg's demuxer.

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


def demuxed(container: Any, streams: Any, errors: list[str]) -> Iterator[Any]:
    """Yield the packets of ``streams`` and the closing flush, continuing after read errors: demuxers often recover."""
    for _ in range(DEMUX_RETRIES):
        try:
            yield from container.demux(streams)
            return
        except av.error.FFmpegError as error:
            errors.append(describe(error))


def fragments(path: str | os.PathLike[str]) -> tuple[int, bool]:
    """Count the movie fragments of an MP4 file, and check that none is missing.

    Fragments are numbered (box ``mfhd``, ISO 14496-12, 8.8.5); none is missing when the numbers are consecutive and the boxes fill the
    file.
    """
    numbers: list[int] = []
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        place = 0
        while place + 8 <= size:
            file.seek(place)
            head = file.read(24)
            length, kind = struct.unpack(">I4s", head[:8])
            if length == 1 and len(head) >= 16:
                (length,) = struct.unpack(">Q", head[8:16])
            elif length == 0:
                length = size - place  # the box reaches to the end of the file
            if length < 8:
                break
            if kind == b"moof" and head[12:16] == b"mfhd":
                numbers.append(struct.unpack(">I", head[20:24])[0])
            place += length
    follow = all(later - earlier == 1 for earlier, later in itertools.pairwise(numbers))
    return len(numbers), follow and place == size


def listed_times(path: str | os.PathLike[str], container: str, index: int) -> list[float]:
    """Times in seconds, ascending, of the packets in an AVI file's index.

    The index omits empty packets, which repeat a picture. No times for other containers and for files without an index.
    """
    if container != "avi":
        return []
    with open_container(path) as opened:
        stream = opened.streams[index]
        return [float(entry.timestamp * stream.time_base) for entry in stream.index_entries]


def lists_every_packet(path: str | os.PathLike[str], container: str, index: int) -> bool:
    """Whether the file lists the time and duration of every packet of stream ``index``, so that a gap is intended.

    True for MP4 and MOV, whose table lists even lost packets, if the table ends with the stream.
    """
    if not container.startswith("mov,"):
        return False
    count, whole = fragments(path)
    if count:
        return whole
    with open_container(path, ignore_editlist="1") as uncut:
        stream = uncut.streams[index]
        entries = stream.index_entries
        return bool(len(entries) and stream.duration and entries[-1].timestamp - entries[0].timestamp < stream.duration)
