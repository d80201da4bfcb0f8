"""decord and PyAV on the same files: the same picture at the same time, or decord refused for a cause that is known."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media.guard import Failure
from pipeline.media.probe import probe
from pipeline.media.stream import TICK
from tests.media import decoders
from tests.media.decoders import Comparison, compare, compare_all

pytest.importorskip("decord", reason="decord has no wheels for this machine")

# Files of shared/clips that PyAV reads and decord does not, or not rightly, and why; PyAV is the decoder used for all of them.
LEAD_IN = "it counts pictures from -"  # kept for decoding only, before the edit list's start: decord shows them or not as it seeks
REFUSED = {
    "VGGSounder__NMQiKrTkl10_000039.mp4": LEAD_IN,
    "VGGSounder__aEYwqY-Zt_k_000011.mp4": LEAD_IN,
    "VGGSounder__nEmU3E8rras_000012.mp4": LEAD_IN,
    "file-type__fixture.mov": LEAD_IN,
    "decord__corrupted.mp4": "avcodec_send_packet",  # damaged; PyAV goes on behind the damage and says so
    "file-type__fixture.mpg": "broken metadata",  # a container without a table of frames
    "moviepy__no_duration.webm": "broken metadata",
    "media__long_180p_av1.mp4": "cannot find video stream",  # AV1: decord's FFmpeg is older
    "torchcodec__av1_video.mkv": "cannot find video stream",
    "media__sample_rotate_and_reflect.mp4": "pictures of",  # decord turns, but does not mirror
    "moviepy__-video-with-dash-.mp4": "shape mismatch",  # one pixel wide and high
    "streamio-ffmpeg__weird_aspect.small.mpg": "duplicate frames",
    "torchcodec__nasa_13013.mp4": "tracks",  # several of pictures
}


def behind_an_edit_list(source: Path, seconds: float) -> Path:
    """``source`` with its first pictures before the clip's start, as cutting without encoding leaves them."""
    target = source.with_name(f"cut_{source.name}")
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options) as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.dts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                writer.mux(packet)
    return target


def test_a_plain_file_shows_the_same_pictures(make_clip):
    found = compare(str(make_clip(seconds=4.0, size=(96, 128))))
    assert found is not None
    assert found.checked is not None
    assert found.checked < TICK
    assert found.grey < 3
    assert found.raw < TICK


@pytest.mark.fault(7)
def test_decord_is_refused_behind_an_edit_list(make_clip):
    path = behind_an_edit_list(make_clip(seconds=4.0), 0.7)
    assert probe(path).video.duration < 3.5
    assert probe(behind_an_edit_list(make_clip(seconds=6.0), 5.0)).video.duration < 1.5, "many cut pictures are no damaged clock"
    found = compare(str(path))
    assert found.checked is None
    assert LEAD_IN in found.reason


def test_the_comparison_sees_pictures_that_differ_though_their_times_agree(make_clip, monkeypatch):
    read = decoders.read_frames

    def late(path, times, found, decoder, size):
        frames = read(path, times, found, decoder, size)
        if decoder == "decord":
            frames.images[:] = np.roll(frames.images, 1, axis=0)
        return frames

    monkeypatch.setattr(decoders, "read_frames", late)
    found = compare(str(make_clip()))
    assert found.checked < TICK
    assert found.grey > 10


@pytest.mark.fault(7)
def test_every_real_file_agrees_or_is_refused_for_a_known_cause(shared):
    """Of large pictures few, which take long; what decord does wrong is in the small files."""
    files = [path for path in (shared / "clips").rglob("*") if path.is_file()]
    large = {path for path in files if path.stat().st_size > 2**20}
    compared = compare_all([str(path) for path in files if path not in large], workers=2, seconds=4.0, pictures=20)
    compared |= compare_all([str(path) for path in large], workers=2, seconds=1.5, pictures=4)
    outcomes = {Path(path).name: found for path, found in compared.items()}
    assert not {name: found for name, found in outcomes.items() if isinstance(found, Failure)}
    read = {name: found for name, found in outcomes.items() if isinstance(found, Comparison)}
    assert len(read) > 90
    refused = {name: found.reason for name, found in read.items() if found.checked is None}
    assert refused.keys() == REFUSED.keys()
    assert not {name: reason for name, reason in refused.items() if REFUSED[name] not in reason}
    agreeing = {name: found for name, found in read.items() if found.checked is not None}
    assert not {name: found for name, found in agreeing.items() if found.checked > found.frame + TICK or found.grey > 10}
