"""Files whose clock jumps: both parts one after the other where that is certain, else a bad status with the jump in its reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from pipeline.media.clip import BAD, decode_clip
from pipeline.media.container import MediaError
from pipeline.media.probe import probe
from pipeline.media.settings import MediaSettings
from pipeline.media.survey import survey
from pipeline.media.timeline import WRAP_SECONDS, _cut, _Stamps, _tracks
from tests.media.conftest import loudest, read_number, rewrap, write_clip
from tests.wording import says

FIRST, SECOND, THIRD = 440, 1000, 2000  # Hz of the parts
OFFSET = 100  # number of the second part's first picture


def read(path: Path, segments: int = 8, start: float = 0.0, **changes):
    return decode_clip(path, start=start, segments=segments, segment_seconds=1.0, settings=MediaSettings(**changes))


def tone(hertz: int):
    return lambda clock: 0.5 * np.sin(2 * np.pi * hertz * clock)


def write_part(path: Path, hertz: int, first_number: int, **parts) -> Path:
    return write_clip(path, seconds=4.0, waveform=tone(hertz), first_number=first_number, **parts)


def join(target: Path, *parts: Path) -> Path:
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def heard(clip) -> list[int]:
    """Hz in each second, measured in its middle."""
    rate = clip.sample_rate
    return [loudest(second[rate // 4 : rate * 3 // 4], rate) for second in clip.waveform.reshape(-1, rate)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> SimpleNamespace:
    """Two MPEG-TS files of 4 s on the same clock, and the second one on others."""
    folder = tmp_path_factory.mktemp("parts")
    first, second = write_part(folder / "a.ts", FIRST, 0), write_part(folder / "b.ts", SECOND, OFFSET)
    moved = {}
    for seconds in (100.0, WRAP_SECONDS - 2):
        target = folder / f"b{seconds:.0f}.ts"
        moved[seconds] = rewrap(second, target, shift=lambda *_, by=seconds: by, avoid_negative_ts="disabled")
    return SimpleNamespace(first=first, second=second, later=moved[100.0], wrapping=moved[WRAP_SECONDS - 2])


@pytest.mark.parametrize("second", ["second", "later", "wrapping"])
def test_parts_of_a_transport_stream_play_one_after_the_other(parts, tmp_path, second):
    """The clock starts again, jumps ahead by more than a pause, or wraps its 33 bits in the middle of the part."""
    clip = read(join(tmp_path / "c.ts", parts.first, getattr(parts, second)))
    assert clip.status == "ok", clip.reason
    assert heard(clip) == [FIRST] * 4 + [SECOND] * 4
    # MPEG-TS from PyAV begins 0.064 s with sound alone, and each part lasts 4.096 s.
    expected = [*(5 * step + 1 for step in range(8)), *(OFFSET + 5 * step for step in range(8))]
    assert np.abs(np.array([read_number(frame) for frame in clip.frames]) - expected).max() <= 1
    assert clip.seconds == 8.0
    assert survey(tmp_path / "c.ts", MediaSettings()).seconds == pytest.approx(8.2, abs=0.05)


def test_a_clock_may_jump_to_before_the_start(parts, tmp_path):
    clip = read(join(tmp_path / "c.ts", parts.later, parts.first))
    assert clip.status == "ok"
    assert heard(clip) == [SECOND] * 4 + [FIRST] * 4
    assert read_number(clip.frames[0]) - OFFSET == read_number(clip.frames[8]) + 1 == 1


def test_a_late_window_of_a_joined_file_is_the_same_as_in_the_whole(parts, tmp_path):
    path = join(tmp_path / "c.ts", parts.first, parts.second, parts.first)
    whole, late = read(path, segments=12), read(path, segments=2, start=7.0)
    assert late.status == "ok"
    np.testing.assert_array_equal(late.frames, whole.frames[14:18])
    np.testing.assert_allclose(late.waveform, whole.waveform[7 * whole.sample_rate : 9 * whole.sample_rate], atol=1e-6)
    assert heard(whole) == [FIRST] * 4 + [SECOND] * 4 + [FIRST] * 4


@pytest.mark.parametrize("short", ["sound", "picture"])
def test_a_part_whose_sound_or_picture_is_shorter_keeps_the_next_in_step(parts, tmp_path, short):
    lengths = {"audio_seconds": 2.0} if short == "sound" else {"times": [n / 10 for n in range(20)], "audio_seconds": 4.0}
    clip = read(join(tmp_path / "c.ts", write_part(tmp_path / "short.ts", FIRST, 0, **lengths), parts.second))
    assert clip.status == "padded"
    assert "window" in clip.reason
    lacking, whole = (clip.audio_valid, clip.visual_valid) if short == "sound" else (clip.visual_valid, clip.audio_valid)
    assert lacking.tolist() == [True, True, False, False, True, True, True, True]
    assert whole.all()
    assert heard(clip)[4:] == [SECOND] * 4
    assert [abs(read_number(frame) - OFFSET - 5 * step) <= 1 for step, frame in enumerate(clip.frames[8:])] == [True] * 8


def test_program_streams_and_ogg_are_joined_too(tmp_path):
    """Ogg may give the second part's streams new numbers, or none: the answer is whole, or its status is bad."""
    for number, (hertz, first) in enumerate(((FIRST, 0), (SECOND, OFFSET))):
        write_clip(tmp_path / f"{number}.mpg", seconds=4.0, fps=25, codec="mpeg1video", time_base=25, audio_codec="mp2",
                   rate=48000, waveform=tone(hertz), first_number=first)  # fmt: skip
    clip = read(join(tmp_path / "c.mpg", tmp_path / "0.mpg", tmp_path / "1.mpg"))
    assert clip.status == "ok", clip.reason
    assert heard(clip) == [FIRST] * 4 + [SECOND] * 4
    numbers = np.array([read_number(frame) for frame in clip.frames])
    expected = np.round((np.arange(8) + 0.5) / 2 * 25)
    assert np.abs(numbers[:8] - expected).max() <= 1
    assert np.abs(numbers[8:] - OFFSET - expected).max() <= 2
    theora = Path(__file__).parent / "data" / "repeats.ogv"
    assert read(join(tmp_path / "c.ogv", theora, theora)).status in {"ok", "partial"} | BAD


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [(".mkv", {}), (".nut", {}), (".webm", {"codec": "libvpx", "audio_codec": "libopus", "rate": 48000})],
    ids=["mkv", "nut", "webm"],
)
def test_a_jump_in_a_container_that_has_none_is_refused(tmp_path, suffix, codecs):
    path = join(
        tmp_path / f"c{suffix}",
        write_part(tmp_path / f"a{suffix}", FIRST, 0, **codecs),
        write_part(tmp_path / f"b{suffix}", SECOND, OFFSET, **codecs),
    )
    clip = read(path)
    assert clip.status == "unreadable"
    assert says(clip.reason, " 3.", "packet 4")
    assert survey(path, MediaSettings()).status == "unreadable"


def test_joined_fragments_are_refused(tmp_path):
    halves = [
        rewrap(write_part(tmp_path / f"{hertz}.mp4", hertz, 0), tmp_path / f"f{hertz}.mp4", movflags="frag_keyframe+empty_moov")
        for hertz in (FIRST, SECOND)
    ]
    clip = read(join(tmp_path / "c.mp4", *halves))
    assert clip.status == "unreadable"
    assert "jumps back" in clip.reason


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".flv", ".avi", ".asf"])
def test_in_other_containers_the_second_part_is_whole_or_absent(tmp_path, suffix):
    """These demuxers end with the first part, or go on counting: picture and sound never come from different parts."""
    codecs = {".avi": {"codec": "mpeg4", "audio_codec": "pcm_s16le"}, ".asf": {"codec": "mpeg4"}}.get(suffix, {})
    paths = [write_part(tmp_path / f"{hertz}{suffix}", hertz, first, **codecs) for hertz, first in ((FIRST, 0), (SECOND, OFFSET))]
    clip = read(join(tmp_path / f"c{suffix}", *paths))
    assert clip.status in {"ok", "padded"}
    assert heard(clip)[:4] == [FIRST] * 4
    assert all(read_number(frame) < OFFSET for frame in clip.frames[:8])
    if suffix == ".avi":
        assert heard(clip)[4:] == [SECOND] * 4
        assert all(read_number(frame) >= OFFSET for frame in clip.frames[8:])
        assert clip.seconds == 8.0
    else:
        assert clip.audio_valid.tolist() == clip.visual_valid.tolist() == [True] * 4 + [False] * 4


def test_a_jump_of_the_picture_alone_is_refused(parts, tmp_path):
    clip = read(join(tmp_path / "c.ts", parts.first, write_part(tmp_path / "mute.ts", SECOND, OFFSET, audio_codec=None)))
    assert clip.status == "unreadable"
    assert says(clip.reason, "pictures", "sound")


def time_stamp(ticks: int) -> bytes:
    """A PES packet's lone time stamp (ISO 13818-1, 2.4.3.6): 33 bits in 5 bytes."""
    return bytes([0x21 | ticks >> 29 & 0xE, ticks >> 22 & 0xFF, 1 | ticks >> 14 & 0xFE, ticks >> 7 & 0xFF, 1 | ticks << 1 & 0xFE])


@pytest.mark.parametrize("seconds", [-1.5, 4.0, 100.0])
def test_a_packet_off_the_clock_is_reported_and_is_not_a_jump(parts, tmp_path, seconds):
    with av.open(str(parts.first)) as container:
        ticks = [packet.pts for packet in container.demux(container.streams.audio[0]) if packet.pts is not None][30]
    content = parts.first.read_bytes()
    assert content.count(time_stamp(ticks)) == 1
    path = tmp_path / "stray.ts"
    path.write_bytes(content.replace(time_stamp(ticks), time_stamp(ticks + round(seconds * 90000))))
    clip = read(path, segments=4)
    assert clip.status == "partial"
    assert "clock" in clip.reason
    whole = read(parts.first, segments=4)
    np.testing.assert_allclose(clip.waveform, whole.waveform, atol=1e-6)  # where it was all the same
    np.testing.assert_array_equal(clip.frames, whole.frames)


def test_decord_is_refused_where_clocks_jump(parts, tmp_path):
    pytest.importorskip("decord", reason="decord has no wheels for this machine")
    clip = read(join(tmp_path / "c.ts", parts.first, parts.second), decoder="decord")
    assert clip.status == "unreadable"
    assert "clock" in clip.reason


def test_a_joined_file_is_as_long_as_its_parts_and_not_as_its_clock_says(parts, tmp_path):
    path = join(tmp_path / "c.ts", parts.first, parts.later)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base > 100
    found = probe(path, MediaSettings(max_seconds=20))
    assert found.duration == pytest.approx(8.19, abs=0.01)
    with pytest.raises(MediaError, match="max_seconds"):
        probe(path, MediaSettings(max_seconds=8))


def test_a_plain_file_is_one_part(parts, tmp_path):
    found = probe(shutil.copy(parts.first, tmp_path / "plain.ts"))
    assert found.video.track.plain
    assert found.audio.track.plain
    assert found.audio.track.pauses == ()


def stamps(kind: str, times: list[float], lasting: float) -> _Stamps:
    return _Stamps(kind, list(range(len(times))), list(times), list(times), [lasting] * len(times))


def test_parts_are_put_together_by_the_later_end_and_the_earlier_start():
    """Worked by hand: part 1 ends at 3.2 (sound), part 2 starts at 0.3 (sound): everything in it moves by 2.9 s."""
    pictures = stamps("pictures", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 0.5, 1.0, 1.5, 2.0], 0.5)
    sound = stamps("sound", [0.2, 0.7, 1.2, 1.7, 2.2, 2.7, 0.3, 0.8, 1.3, 1.8], 0.5)
    tracks = _tracks({0: pictures, 1: sound}, may_jump=True)
    assert [(part.first, part.shift) for part in tracks[0].parts] == [(0, 0.0), (6, pytest.approx(2.9))]
    assert tracks[0].parts == tracks[1].parts
    assert (tracks[0].start, tracks[0].end) == (0.0, pytest.approx(5.4))
    assert tracks[0].pauses == ((3.0, pytest.approx(3.4)),)
    assert tracks[1].pauses == ()
    with pytest.raises(MediaError, match=r"sound.* 2\.4 s.*packet 6"):
        _tracks({0: pictures, 1: sound}, may_jump=False)


def test_where_a_clock_is_cut():
    steady = np.arange(10) * 0.1
    assert _cut(steady, 0.1, 10.0) == ([], [])
    assert _cut(np.concatenate([steady, steady]), 0.1, 10.0) == ([10], [])
    assert _cut(np.concatenate([steady, steady + 50]), 0.1, 10.0) == ([10], [])
    assert _cut(np.concatenate([steady, steady + 5]), 0.1, 10.0) == ([], [])  # a pause
    assert _cut(np.concatenate([steady, [70.0, 0.02], steady + 1]), 0.1, 10.0) == ([], [10, 11])
    assert _cut(np.array([0.0, 2.0, 4.0, 6.0]), 0.1, 10.0) == ([], [])  # slow, not stray
