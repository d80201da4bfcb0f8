"""Read a folder of numbered pictures (0001.jpg, 0002.jpg, ...) at a stated rate like a film.

Picture 0, or 1 where there is none, begins at 0 s; a number that is missing is a picture that was not decoded.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import av
import av.error
import numpy as np

from pipeline.media.container import MediaError, describe
from pipeline.media.probe import Probe, VideoStream
from pipeline.media.settings import MediaSettings
from pipeline.media.stream import TICK
from pipeline.media.video import Frames, picture
from pipeline.text import numbered

CODECS = {"jpg": "mjpeg", "jpeg": "mjpeg", "png": "png"}


def pictures_in(folder: str | os.PathLike[str]) -> dict[int, str]:
    """The paths of a folder's numbered pictures by their place, in order; links are left out.

    Raises:
        MediaError: ``unreadable``; the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError as error:
        raise MediaError("unreadable", f"the folder cannot be read: {error.strerror}") from error
    return {place: os.path.join(folder, name) for place, name in numbered(names).items()}


def probe_pictures(folder: str | os.PathLike[str], limits: MediaSettings) -> Probe:
    """State what a folder of numbered pictures holds: the size of the first that decodes, the length by their rate.

    Raises:
        MediaError: ``missing`` without a picture; ``unreadable`` without one that decodes; ``refused`` without a stated rate or beyond a
            limit.
    """
    found, rate = pictures_in(folder), limits.pictures_per_second
    if not found:
        raise MediaError("missing", "not a regular file, nor a folder of numbered pictures (0001.jpg, 0002.jpg, ...)")
    if rate is None:
        raise MediaError("refused", "a folder of numbered pictures has no rate of its own; state media.pictures_per_second")
    seconds = (max(found) + 1) / rate
    if seconds > limits.max_seconds:
        raise MediaError("refused", f"lasts {seconds:.0f} s, over media.max_seconds = {limits.max_seconds:g}")
    errors: list[str] = []
    frame = next((frame for path in found.values() if (frame := _decoded(path, errors)) is not None), None)
    if frame is None:
        raise MediaError("unreadable", f"no picture of the folder decodes: {errors[0]}")
    if frame.width * frame.height > limits.max_pixels:
        raise MediaError("refused", f"frames of {frame.width}x{frame.height} pixels, over media.max_pixels = {limits.max_pixels}")
    codec = CODECS[next(iter(found.values())).rpartition(".")[2].lower()]
    video = VideoStream(0, codec, frame.width, frame.height, frame.format.name, rate, 0.0, seconds)
    return Probe(os.fspath(folder), "pictures", 0.0, seconds, video, None)


def read_pictures(folder: str | os.PathLike[str], times: np.ndarray, found: Probe, size: tuple[int, int]) -> Frames:
    """Read the picture shown at each of ``times`` (F,), as :func:`pipeline.media.video.read_frames` does of a film.

    Raises:
        MediaError: ``unreadable`` when none of them decodes.
    """
    assert found.video is not None
    paths, rate, errors = pictures_in(folder), found.video.rate, list[str]()
    last = max(paths, default=-1)
    wanted = np.clip(np.floor((times + TICK) * rate).astype(int), 0, last)
    images = np.empty((len(times), *size, 3), np.uint8)
    covered, shown = np.zeros(len(times), bool), wanted / rate
    image: np.ndarray | None = None
    waiting = 0  # images before the first that decodes
    for number, place in enumerate(wanted):
        if number == 0 or place != wanted[number - 1]:
            new = _image(paths[place], found.video, size, errors) if place in paths else None
            image, decoded = (image, False) if new is None else (new, True)
        if image is None:
            waiting = number + 1
            continue
        images[waiting : number + 1] = image
        covered[number], waiting = decoded and times[number] < (last + 1) / rate + TICK, number + 1
    if image is None:
        raise MediaError("unreadable", f"no picture of the window decodes: {(errors or ['their numbers are missing'])[0]}")
    return Frames(images, shown, covered, (last + 1) / rate, "pyav", tuple(errors))


def _image(path: str, video: VideoStream, size: tuple[int, int], errors: list[str]) -> np.ndarray | None:
    frame = _decoded(path, errors)
    if frame is None:
        return None
    if (frame.width, frame.height) != (video.width, video.height):
        errors.append(f"{os.path.basename(path)} has {frame.width}x{frame.height} pixels, the first {video.width}x{video.height}")
        return None
    return picture(frame, replace(video, orientation=(0, False)), size)


def _decoded(path: str, errors: list[str]) -> av.VideoFrame | None:
    """Decode a picture; None, and a line in ``errors``, where that fails."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        context: Any = av.CodecContext.create(CODECS[path.rpartition(".")[2].lower()], "r")
        context.thread_count = 1
        context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        frames = [frame for packet in (av.Packet(content), None) for frame in context.decode(packet)]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        errors.append(f"{os.path.basename(path)}: {describe(error)}")
        return None
    if not frames or frames[0].is_corrupt:
        errors.append(f"{os.path.basename(path)}: no picture in it, or a damaged one")
        return None
    return frames[0]
