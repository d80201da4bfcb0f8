"""Intact files of unusual make: what their own tables state is no loss, and what is missing against them still is one."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media.clip import decode_clip
from pipeline.media.container import fragments
from pipeline.media.settings import MediaSettings
from pipeline.media.survey import survey
from tests.media.conftest import loudest, read_number, rewrap

STILL = [*(n / 10 for n in range(8)), *(3.1 + n / 10 for n in range(9))]  # picture 7 stands from 0.7 to 3.1 s
FRAGMENTED = "frag_keyframe+empty_moov"


def read(path: Path, segments: int = 4, **changes):
    return decode_clip(path, start=0.0, segments=segments, segment_seconds=1.0, settings=MediaSettings(**changes))


def heard(clip) -> list[int]:
    """Hz in each quarter of a second."""
    return [loudest(piece, clip.sample_rate) for piece in np.array_split(clip.waveform, 4 * len(clip.audio_valid))]


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_still_picture_is_not_a_loss(make_clip, suffix, decoder):
    if decoder == "decord":
        pytest.importorskip("decord", reason="decord has no wheels for this machine")
    path = make_clip(f"still{suffix}", times=STILL)
    with av.open(str(path)) as container:
        frames = [frame for frame in container.decode(container.streams.video[0])]
        assert container.streams.video[0].codec_context.has_b_frames
    assert frames[7].duration * frames[7].time_base < 0.2  # durations follow the order of decoding: the one that stands says 0.1 s
    clip = read(path, frames_per_second=10.0, decoder=decoder)
    assert (clip.status, clip.video_coverage) == ("ok", 1.0)
    expected = [max(n for n, start in enumerate(STILL) if start <= time) for time in (np.arange(40) + 0.5) / 10]
    assert [read_number(frame) for frame in clip.frames] == expected


def test_avi_repeats_a_picture_by_leaving_it_out_of_its_index(make_clip):
    times = [*(n / 10 for n in range(10)), *(2.5 + n / 10 for n in range(15))]
    path = make_clip("gap.avi", times=times, codec="mpeg4", audio_codec="pcm_s16le")
    clip = read(path, frames_per_second=10.0)
    assert (clip.status, clip.video_coverage) == ("ok", 1.0)
    assert [read_number(frame) for frame in clip.frames] == [*range(9), *[9] * 16, *range(10, 25)]
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content)) if content[place : place + 4] == b"00dc" and place < content.index(b"idx1")]
    pictures = [place for place in places if content[place + 4 : place + 8] != bytes(4)]
    assert len(pictures) == 25
    content[pictures[3] : pictures[8]] = bytes(pictures[8] - pictures[3])  # listed, and lost
    path.write_bytes(content)
    assert read(path, frames_per_second=10.0).status in {"partial", "truncated", "unreadable"}


def test_frames_that_carry_no_time_are_not_placed_by_guess(make_clip):
    """H.264 in a program stream: one time stamp for many pictures, and a rate that says nothing."""
    clip = read(make_clip("untimed.vob", audio_codec="mp2"))
    assert clip.status == "unreadable"
    assert "time" in clip.reason


def test_a_still_before_the_last_picture_throws_no_clip_away(make_clip):
    """The table, which follows the order of decoding, has no room for this gap: the track states 1.7 s."""
    clip = read(make_clip("end.mp4", times=[*(n / 10 for n in range(16)), 3.9]), frames_per_second=10.0)
    assert (clip.status, clip.video_coverage) == ("padded", 1.0)
    assert [read_number(frame) for frame in clip.frames] == [*range(16), *[15] * 23, 16]


@pytest.mark.fault(2)
def test_lost_pictures_behind_a_still_one_are_still_a_loss(make_clip):
    """The table is whole, the pictures from 3.1 s on are not."""
    path = make_clip("still.mp4", times=STILL, fast_start=True)
    with av.open(str(path)) as container:
        places = [
            packet.pos
            for packet in container.demux(container.streams.video[0])
            if packet.pts is not None and packet.pts * packet.time_base > 3.0
        ]
    path.write_bytes(path.read_bytes()[: min(places)])
    clip = read(path, frames_per_second=10.0)
    assert clip.status in {"partial", "truncated"}


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_clock_that_starts_late_is_measured_by_its_packets(make_clip, tmp_path, suffix, from_zero):
    codecs = {"codec": "libvpx", "audio_codec": "libopus", "rate": 48000} if suffix == ".webm" else {}
    path = rewrap(
        make_clip(f"clip{suffix}" if codecs else "clip.mp4", **codecs),
        tmp_path / f"late{suffix}",
        shift=lambda *_: 10.0,
        avoid_negative_ts="disabled",
    )
    if not from_zero:  # as the other muxer writes it: one Duration (EBML 0x4489, a float64), counted from the first time stamp
        content = path.read_bytes()
        place = content.index(b"\x44\x89\x88") + 3
        (duration,) = struct.unpack(">d", content[place : place + 8])
        assert 14000 <= duration < 14100
        path.write_bytes(content[:place] + struct.pack(">d", duration - 10000) + content[place + 8 :])
    assert survey(path, MediaSettings()).seconds == pytest.approx(4.03, abs=0.05)
    assert read(path).status == "ok"
    clip = read(path, segments=6)
    assert clip.status == "padded"
    assert clip.visual_valid.tolist() == clip.audio_valid.tolist() == [True] * 4 + [False] * 2
    assert clip.seconds == pytest.approx(4.03, abs=0.05)


def test_a_late_clock_hides_no_cut(make_clip, tmp_path):
    path = rewrap(make_clip(), tmp_path / "late.mkv", shift=lambda *_: 10.0, avoid_negative_ts="disabled")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    clip = read(path)
    assert clip.status == "truncated"
    assert 0.3 < clip.video_coverage < 0.7


@pytest.mark.parametrize(
    "flags", [FRAGMENTED, "frag_keyframe", f"{FRAGMENTED}+separate_moof", f"{FRAGMENTED}+delay_moov", "dash+frag_keyframe", ""]
)
@pytest.mark.fault(5)
def test_mp4_whose_sound_pauses_or_starts_late_is_padded(sound_clip, tmp_path, flags):
    options = {"movflags": flags} if flags else {}
    late = rewrap(sound_clip, tmp_path / "late.mp4", shift=lambda i, _: 1.5 * i, keep=lambda i, moment: i == 0 or moment < 2.5, **options)
    clip = read(late)
    assert clip.status == "padded", clip.reason
    assert clip.visual_valid.all()
    assert clip.audio_valid.tolist()[2:] == [True, True]
    assert not clip.audio_valid[0]
    assert heard(clip)[8:15] == [440] * 7
    pausing = rewrap(sound_clip, tmp_path / "pause.mp4", keep=lambda i, moment: i == 0 or not 1.0 < moment < 2.5, **options)
    clip = read(pausing)
    assert clip.status == "padded", clip.reason
    assert clip.visual_valid.all()
    assert clip.audio_valid.tolist() == [True, False, False, True]
    assert heard(clip)[5:10] == [0] * 5
    assert (heard(clip)[:4], heard(clip)[12:15]) == ([440] * 4, [440] * 3)


def test_fragmented_mp4_is_ok(sound_clip, tmp_path):
    clip = read(rewrap(sound_clip, tmp_path / "plain.mp4", movflags=FRAGMENTED))
    assert clip.status == "ok"


def test_a_lost_fragment_is_still_a_loss(sound_clip, tmp_path):
    path = rewrap(sound_clip, tmp_path / "whole.mp4", movflags=f"{FRAGMENTED}+default_base_moof+separate_moof")
    content = path.read_bytes()
    starts = [place - 4 for place in range(len(content)) if content[place : place + 4] == b"moof"]
    assert fragments(path) == (len(starts), True)
    first, second = starts[3], starts[4]
    gone = tmp_path / "gone.mp4"
    gone.write_bytes(content[:first] + content[second:])
    assert fragments(gone) == (len(starts) - 1, False)
    assert read(gone).status in {"partial", "truncated"}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_one_picture_under_sound_is_padded(make_clip, suffix):
    clip = read(make_clip(f"one{suffix}", times=[0.0], audio_seconds=4.0))
    assert clip.status == "padded"
    assert clip.audio_valid.all()
    assert not clip.visual_valid.any()
    assert {read_number(frame) for frame in clip.frames} == {0}


def test_an_empty_packet_repeats_the_picture():
    """Theora: 1.2 s that move, 2.5 s of repeats (FFmpeg's testsrc and tpad), under a tone."""
    path = Path(__file__).parent / "data" / "repeats.ogv"
    with av.open(str(path)) as container:
        assert sum(packet.pts is not None and not packet.size for packet in container.demux(container.streams.video[0])) > 15
    clip = read(path, frames_per_second=10.0)
    assert (clip.status, clip.reason) == ("ok", "")
    moving = np.abs(np.diff(clip.frames[:12].astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (moving > 0).all()
    assert np.abs(clip.frames[13:].astype(int) - clip.frames[12]).mean() < 1.0
    assert heard(clip)[:15] == [440] * 15


def test_a_loss_before_a_repeat_is_still_reported(tmp_path):
    content = bytearray((Path(__file__).parent / "data" / "repeats.ogv").read_bytes())
    pages = [place for place in range(len(content)) if content[place : place + 4] == b"OggS"]
    page = pages[len(pages) // 2]
    content[page : page + 300] = bytes(300)
    path = tmp_path / "lost.ogv"
    path.write_bytes(content)
    assert read(path, frames_per_second=10.0).status != "ok"
