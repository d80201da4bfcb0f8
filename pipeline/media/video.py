"""Read the pictures shown at given times, with two decoders behind one interface.

PyAV comes first: it is exact, it reports what it could not decode, and with one thread it is also the faster one. decord counts frames
instead of reading their times: on damaged files it silently returns other pictures, and on intact ones with several edit-list entries or
hidden VP8 frames it is wrong by up to a second. Its frame times are therefore checked against the container's packets, and "auto" uses it
only where PyAV decodes nothing.
Pixels are not stretched to their display aspect ratio, as in the papers' own extraction scripts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import av
import numpy as np

from pipeline.media.container import MediaError, describe, listed_times, lists_every_packet
from pipeline.media.probe import Probe, VideoStream
from pipeline.media.stream import TICK, Packets, decoded_frames, packet_times

HOLE_SECONDS = 1.0  # a picture that stays longer than this, and than its container states, hides lost ones
REORDER_DEPTH = 16  # largest distance, in pictures, at which H.264 and HEVC store one out of order
REGULAR_SHARE = 0.1  # largest share of longer gaps between packets in a stream that counts as regular


@dataclass(frozen=True)
class Frames:
    """Pictures of one clip at the F times asked for.

    images: (F, H, W, 3) uint8 RGB, upright.
    times: (F,) float64, seconds on the clip's clock at which each shown picture begins.
    covered: (F,) bool, False where the picture of that time was not decoded and another stands in.
    end: seconds up to which pictures were decoded.
    decoder: "decord" or "pyav".
    errors: what the decoder complained about, one line each.
    """

    images: np.ndarray
    times: np.ndarray
    covered: np.ndarray
    end: float
    decoder: str
    errors: tuple[str, ...] = ()


class Untrusted(Exception):
    """Frames or times of decord that do not agree with the container."""


def read_frames(
    path: str | os.PathLike[str],
    times: np.ndarray,
    probe: Probe,
    decoder: Literal["auto", "decord", "pyav"] = "auto",
    frame_size: int | None = None,
) -> Frames:
    """Read the picture shown at each of ``times``: the last one that begins at or before it.

    Args:
        times: (F,) seconds on the clip's clock, ascending. Earlier times get the first picture, later ones the last.
        frame_size: short side in pixels to which larger pictures are scaled down by area averaging; None keeps the size.

    Raises:
        MediaError: ``no_video`` without a video stream; ``unreadable`` when no picture decodes.
        ValueError: ``times`` empty or not ascending.
    """
    wanted = np.asarray(times, dtype=np.float64)
    if wanted.ndim != 1 or not len(wanted) or np.any(np.diff(wanted) < 0):
        raise ValueError("times must be a non-empty ascending vector of seconds")
    if probe.video is None:
        raise MediaError("no_video", "the file has no moving picture")
    size = scaled_size(probe.video.upright_size, frame_size)
    if decoder == "decord":
        return _checked_decord(path, wanted, probe, probe.video, size)
    try:
        return _read_pyav(path, wanted, probe, probe.video, size)
    except MediaError:
        if decoder == "pyav":
            raise
        try:
            return _checked_decord(path, wanted, probe, probe.video, size)
        except MediaError:
            pass
        raise


def scaled_size(size: tuple[int, int], frame_size: int | None) -> tuple[int, int]:
    """(height, width) with the short side at most ``frame_size``, aspect kept to the nearest pixel, never enlarged."""
    short = min(size)
    if frame_size is None or short <= frame_size:
        return size
    height, width = (max(1, round(side * frame_size / short)) for side in size)
    return height, width


def _read_pyav(path: str | os.PathLike[str], times: np.ndarray, found: Probe, video: VideoStream, size: tuple[int, int]) -> Frames:
    packets = Packets()
    images = np.empty((len(times), *size, 3), np.uint8)
    shown, lasts = np.empty(len(times)), np.empty(len(times))
    current: tuple[float, Any] | None = None
    done = 0
    for moment, frame in decoded_frames(path, video.index, found.clock, float(times[0]), 1 / video.rate, packets, video.track):
        if current is not None:
            if moment < current[0]:
                continue  # a time stamp that runs backwards is damage
            stop = int(np.searchsorted(times, moment - TICK, "left"))
            if stop > done:
                images[done:stop] = picture(current[1], video, size)
                shown[done:stop], lasts[done:stop] = current[0], _lasts(current[1])
                done = stop
        current = (moment, frame)
        if done == len(times):
            break
    if current is None:
        raise MediaError("unreadable", f"no picture of its {video.codec} stream decodes: {(packets.errors or ['no packet'])[0]}")
    if done < len(times):
        images[done:] = picture(current[1], video, size)
        shown[done:], lasts[done:] = current[0], _lasts(current[1])
    interval = packets.interval or 1 / video.rate
    covered = _covered(times, shown, lasts, current[0], packets.times, interval, _hole(found, packets.times, interval))
    if not covered.all() and not packets.errors:  # after damage, a long picture stands for lost ones
        lasts = np.maximum(lasts, _stands(path, found, video, packets, shown, interval))
        covered = _covered(times, shown, lasts, current[0], packets.times, interval, _hole(found, packets.times, interval))
    return Frames(images, shown, covered, current[0] + max(_lasts(current[1]), interval), "pyav", tuple(packets.errors))


def _lasts(frame: Any) -> float:
    """Stated duration of a frame in seconds; 0 where none is stated."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0


def _stands(
    path: str | os.PathLike[str], found: Probe, video: VideoStream, packets: Packets, shown: np.ndarray, interval: float
) -> np.ndarray:
    """Seconds that the file's own table lets each picture begun at ``shown`` (F,) stand; 0: as usual.

    MP4's table lists durations in the order of decoding: where pictures are stored out of order, a long picture and the packet with its
    duration lie up to the depth of reordering apart. AVI's table lists which pictures exist.
    """
    due, lasting = np.asarray(packets.due), np.asarray(packets.lasting)
    stands = np.zeros(len(shown))
    if not len(due):
        return stands
    if lists_every_packet(path, found.container, video.index):
        for place, moment in enumerate(shown):
            nearest = int(np.argmin(np.abs(due - moment)))
            longest = float(lasting[max(0, nearest - REORDER_DEPTH) : nearest + REORDER_DEPTH + 1].max())
            if longest > 1.5 * interval:
                stands[place] = longest + interval
    elif listed := listed_times(path, found.container, video.index):
        following = np.append(packets.times, np.inf)[np.searchsorted(packets.times, shown + TICK)]
        next_listed = np.append(np.asarray(listed) - found.clock, np.inf)[np.searchsorted(np.asarray(listed) - found.clock, shown + TICK)]
        stands = np.where(np.isfinite(following) & (next_listed > following - TICK), following - shown, 0.0)
    return stands


def _checked_decord(path: str | os.PathLike[str], times: np.ndarray, found: Probe, video: VideoStream, size: tuple[int, int]) -> Frames:
    try:
        return _read_decord(path, times, found, video, size)
    except Exception as error:  # decord raises its own errors and plain ones alike
        raise MediaError("unreadable", f"decord: {describe(error)}") from error


def _read_decord(path: str | os.PathLike[str], times: np.ndarray, found: Probe, video: VideoStream, size: tuple[int, int]) -> Frames:
    import decord  # x86-64 wheels only; loaded only when asked for

    decord.logging.set_level(decord.logging.QUIET)
    if video.choice != "1 of 1":
        raise Untrusted("it chooses among several video tracks by rules of its own")
    if video.track and not video.track.plain:
        raise Untrusted("it does not handle a clock that jumps")
    packets = packet_times(path, video.index, found.clock, float(times[-1]))
    due = packets.times[: max(1, int(np.searchsorted(packets.times, times[-1] + TICK, "right")))]  # later ones may not all have been read
    # fault_tol=1: a lost picture is an error, where decord would return another one
    reader = decord.VideoReader(os.path.abspath(path), num_threads=1, fault_tol=1)
    spans = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)
    starts, ends = _agreed(spans, due)
    chosen = np.maximum(np.searchsorted(starts, times + TICK, "right") - 1, 0)
    images = np.empty((len(times), *size, 3), np.uint8)
    for wanted in np.unique(chosen):
        reader.seek_accurate(int(wanted))  # skip_frames is quicker, but reaches other pictures behind a key frame
        image = reader.next().asnumpy()
        if video.mirrored or image.shape[:2] != video.upright_size:
            raise Untrusted(f"pictures of {image.shape[:2]}, expected {video.upright_size}")  # another stream or orientation
        images[chosen == wanted] = _shrunk(image, size)
    interval = float(np.median(np.diff(starts))) if len(starts) > 1 else 1 / video.rate
    lasts = (ends - starts)[chosen]
    covered = _covered(times, starts[chosen], lasts, starts[-1], starts, interval, _hole(found, starts, interval))
    if not covered.all():
        lasts = np.maximum(lasts, _stands(path, found, video, packets, starts[chosen], interval))
        covered = _covered(times, starts[chosen], lasts, starts[-1], starts, interval, _hole(found, starts, interval))
    end = starts[-1] + max(ends[-1] - starts[-1], interval)
    return Frames(images, starts[chosen], covered, float(end), "decord")


def _agreed(spans: np.ndarray, due: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move decord's frame starts and ends (counted from its first frame) to the clip's clock.

    Raises:
        Untrusted: a frame is missing, or its time differs from its packet's by more than the rounding of a millisecond clock.
    """
    if not len(due) or len(spans) < len(due):
        raise Untrusted(f"{len(spans)} frames for {len(due)} packets")
    if spans[0, 0] < -TICK:  # an edit list starts later; decord counts the pictures before it, and may show them
        raise Untrusted(f"it counts pictures from {spans[0, 0]:.3f} s, before the clip's start")
    starts, ends = (spans + (due[0] - spans[0, 0])).T
    if np.abs(starts[: len(due)] - due).max() > 4 * TICK or np.any(np.diff(starts) < 0):
        raise Untrusted("frame times differ from the packets'")
    return starts, ends


def _hole(found: Probe, due: np.ndarray, interval: float) -> float:
    """Shortest time without a picture, in seconds, that is a loss and no slow or changing frame rate.

    MP4's table lists every picture, even a lost one. Other containers only store pictures one after another, so an overwritten one leaves
    nothing but a hole in time: in an otherwise regular stream, a hole of more than one picture is a loss (a Matroska cluster, or the
    missing end of a transport stream).
    """
    regular = len(due) > 1 and float(np.mean(np.diff(due) > 1.5 * interval)) <= REGULAR_SHARE
    return 2.5 * interval if regular and not found.container.startswith("mov,") else max(HOLE_SECONDS, 5 * interval)


def _covered(
    times: np.ndarray, shown: np.ndarray, lasts: np.ndarray, final: float, due: np.ndarray, interval: float, hole: float
) -> np.ndarray:
    """Whether the picture begun at ``shown`` is really the one of ``times``, (F,) bool.

    It is not where the time lies half an interval before the first picture, after the end of the last one (begun at ``final``), in a hole
    that neither the container (``lasts``) nor the frame rate explains, or where a packet ``due`` in between did not decode.
    """
    reach = np.where(shown >= final, np.maximum(lasts, interval), np.maximum(lasts, hole))
    covered = (times >= shown - interval / 2 - TICK) & (times < shown + reach + TICK)
    if len(due):
        latest = due[np.maximum(np.searchsorted(due, times + TICK, "right") - 1, 0)]
        covered &= shown >= latest - 1.5 * interval  # one picture is no loss: it may never have been meant to be shown
    return covered


def picture(frame: Any, video: VideoStream, size: tuple[int, int]) -> np.ndarray:
    """A decoded frame as (H, W, 3) uint8 RGB, upright, of ``size`` = (height, width)."""
    height, width = (size[1], size[0]) if video.rotation % 180 else size
    image = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA", threads=1).to_ndarray()
    image = np.rot90(image, video.rotation // 90)
    return image[:, ::-1] if video.mirrored else image


def _shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    return frame.reformat(width=size[1], height=size[0], interpolation="AREA", threads=1).to_ndarray()
