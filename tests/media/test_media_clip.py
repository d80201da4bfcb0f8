from __future__ import annotations

import csv
import os
import random
import shutil
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.media.clip import BAD, GOOD, decode_clip
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.settings import MediaSettings
from tests.wording import says

SHARED = Path(__file__).parents[2].parent / "shared" / "clips"
SETTINGS = MediaSettings()


def read(path, segments: int = 4, start: float = 0.0, **changes):
    return decode_clip(path, start=start, segments=segments, segment_seconds=1.0, settings=MediaSettings(**changes))


def check_arrays(clip, segments: int) -> None:
    """What every answer must satisfy: whole arrays and masks, or none and a reason."""
    if clip.status in BAD:
        assert clip.frames is None
        assert clip.waveform is None
        assert clip.reason
        assert "\n" not in clip.reason
        return
    assert clip.status in GOOD
    assert clip.frames.dtype == np.uint8
    assert len(clip.frames) == 2 * segments
    assert clip.waveform.shape == (segments * clip.sample_rate,)
    assert np.isfinite(clip.waveform).all()
    assert clip.visual_valid.shape == clip.audio_valid.shape == (segments,)
    assert clip.visual_valid.any() or clip.seconds == 0
    assert bool(clip.reason) == (clip.status != "ok")


def test_ok(sound_clip, number_of):
    clip = read(sound_clip)
    check_arrays(clip, 4)
    assert (clip.status, clip.reason, clip.seconds) == ("ok", "", 4.0)
    assert [number_of(frame) for frame in clip.frames] == [2, 7, 12, 17, 22, 27, 32, 37]
    assert clip.visual_valid.all()
    assert clip.audio_valid.all()
    assert clip.facts["width"] == 128


def test_start_aligned_sampling_as_in_the_papers(sound_clip, number_of):
    clip = read(sound_clip, frame_offset=0.0)
    assert [number_of(frame) for frame in clip.frames] == [0, 5, 10, 15, 20, 25, 30, 35]


@pytest.mark.fault(6)
def test_a_later_window(sound_clip, number_of):
    clip = read(sound_clip, start=2.0, segments=2)
    assert clip.status == "ok"
    assert [number_of(frame) for frame in clip.frames] == [22, 27, 32, 37]


@pytest.mark.fault(6)
def test_a_clip_shorter_than_the_window_is_padded_and_masked(sound_clip, number_of):
    clip = read(sound_clip, segments=6)
    check_arrays(clip, 6)
    assert clip.status == "padded"
    assert [number_of(frame) for frame in clip.frames[7:]] == [37, 39, 39, 39, 39]
    assert clip.visual_valid.tolist() == clip.audio_valid.tolist() == [True] * 4 + [False] * 2
    assert not clip.waveform[round(4.2 * 16000) :].any()
    assert abs(clip.seconds - 4.0) < 0.1
    assert clip.video_coverage == 1.0


@pytest.mark.fault(5)
def test_sound_shorter_than_the_picture(make_clip):
    clip = read(make_clip(audio_seconds=2.0))
    assert clip.status == "padded"
    assert clip.visual_valid.all()
    assert clip.audio_valid.tolist() == [True, True, False, False]


def test_matroska_without_stream_durations(make_clip):
    whole = read(make_clip("whole.mkv"))
    assert (whole.status, whole.video_coverage) == ("ok", 1.0)
    shorter = read(make_clip("shorter.mkv", audio_seconds=2.0))
    assert shorter.status == "padded"


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.9])
@pytest.mark.fault(6, 10)
def test_clips_shorter_than_one_example_of_an_encoder(make_clip, seconds):
    clip = read(make_clip(seconds=seconds, fps=20))
    check_arrays(clip, 4)
    assert clip.status == "padded"
    assert clip.visual_valid.tolist() == [True, False, False, False]
    assert clip.audio_valid[0]


@pytest.mark.fault(3)
def test_no_sound_is_zeros_and_a_mask_or_a_bad_clip(make_clip):
    path = make_clip(audio_codec=None)
    silent = read(path)
    check_arrays(silent, 4)
    assert silent.status == "silent"
    assert not silent.waveform.any()
    assert not silent.audio_valid.any()
    assert read(path, on_missing_audio="drop").status == "no_audio"


@pytest.mark.fault(3)
def test_digital_silence_is_sound(make_clip):
    clip = read(make_clip(waveform=np.zeros_like))
    assert clip.status == "ok"
    assert np.isfinite(clip.waveform).all()


@pytest.mark.fault(4)
def test_sound_and_cover_art_are_no_video(make_clip, tmp_path):
    assert read(make_clip("sound.m4a", codec=None)).status == "no_video"
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=16000, layout="mono")
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8))))
        container.mux(cover.encode(None))
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        piece.sample_rate = 16000
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    assert read(path).status == "no_video"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"<!DOCTYPE html><html><body>404</body></html>", "container"), (random.Random(0).randbytes(5000), "container"),
     (b"\x89PNG\r\n\x1a\n" + bytes(200), "container"), (b"#EXTM3U\n#EXTINF:4,\nsound.mp4\n#EXT-X-ENDLIST\n", "container"),
     (b"ffconcat version 1.0\nfile sound.mp4\n", "container")],
    ids=["nothing", "a web page", "noise", "a picture", "a playlist", "a list of files"],
)  # fmt: skip
@pytest.mark.fault(1)
def test_a_file_without_media_is_unreadable(tmp_path, sound_clip, content, words):
    shutil.copy(sound_clip, tmp_path / "sound.mp4")  # what the playlists point to exists
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    clip = read(path)
    check_arrays(clip, 4)
    assert clip.status == "unreadable"
    assert words in clip.reason


@pytest.mark.fault(1)
def test_missing(tmp_path):
    assert read(tmp_path / "nowhere.mp4").status == "missing"
    assert read(tmp_path).status == "missing"


@pytest.mark.fault(1)
def test_a_wrong_extension_does_not_matter(tmp_path, sound_clip):
    assert read(shutil.copy(sound_clip, tmp_path / "sound.avi")).status == "ok"


@pytest.mark.parametrize("name", ["a b.mp4", "-i.mp4", "é中.mp4", "two\nlines.mp4", "concat:a.mp4", "file.mp4?x=1#y.mp4", "%03d.mp4"])
@pytest.mark.fault(11)
def test_names_are_only_names(tmp_path, sound_clip, monkeypatch, name):
    shutil.copy(sound_clip, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert read(name).status == "ok"
    assert read(name, decoder="decord").status == "ok"


@pytest.mark.fault(2)
def test_cut_short_fast_start_file(sound_clip, tmp_path):
    content = sound_clip.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(content[: len(content) // 2])
    clip = read(path)
    assert clip.status == "truncated"
    assert "%" in clip.reason
    assert 0.2 < clip.video_coverage < 0.7  # the manifest tells how much there was
    kept = read(path, min_coverage=0.2)
    check_arrays(kept, 4)
    assert kept.status == "partial"
    assert 0.2 < kept.video_coverage < 0.7
    assert not kept.visual_valid[-1]
    path.write_bytes(content[: len(content) * 97 // 100])
    assert read(path).status == "partial"


@pytest.mark.fault(2)
def test_cut_without_an_index_is_unreadable(make_clip):
    path = make_clip()
    path.write_bytes(path.read_bytes()[:-3000])
    assert read(path).status == "unreadable"


@pytest.mark.fault(2)
def test_bit_rot_is_never_ok(sound_clip, tmp_path):
    content = bytearray(sound_clip.read_bytes())
    payload = content.index(b"mdat") + 4
    content[payload + 2000 : payload + 6000] = os.urandom(4000)
    path = tmp_path / "rot.mp4"
    path.write_bytes(content)
    assert read(path).status in {"partial", "truncated"}


@pytest.mark.fault(2)
def test_a_hole_in_a_regular_stream_is_a_loss_unless_a_table_says_otherwise(make_clip):
    """Eight pictures of a second are gone, as after the loss of a Matroska cluster; MP4's table of pictures says that there are none."""
    times = [number / 10 for number in range(40) if not 15 <= number < 23]
    lost = read(make_clip("hole.mkv", times=times), frames_per_second=10.0, min_coverage=0.5)
    assert lost.status == "partial"
    assert 0.75 < lost.video_coverage < 0.9
    assert read(make_clip("hole.mp4", times=times), frames_per_second=10.0).status == "ok"
    irregular = [number / 10 for number in range(40) if number % 5 not in (2, 3)]
    assert read(make_clip("irregular.mkv", times=irregular), frames_per_second=10.0).status == "ok"


@pytest.mark.fault(2, 3)
def test_undecodable_sound_is_silent(make_clip):
    path = make_clip("deaf.mkv")
    content = path.read_bytes()
    assert content.count(b"A_AAC") == 1
    path.write_bytes(content.replace(b"A_AAC", b"A_XYZ"))  # a codec nobody knows
    clip = read(path)
    check_arrays(clip, 4)
    assert clip.status == "silent"
    assert clip.visual_valid.all()


@pytest.mark.fault(9)
def test_limits_are_checked_before_decoding(sound_clip):
    assert "max_pixels" in read(sound_clip, max_pixels=1000).reason
    assert "max_seconds" in read(sound_clip, max_seconds=2.0).reason
    refused = read(sound_clip, max_decoded_bytes=400_000)
    assert refused.status == "refused"
    assert "max_decoded_bytes" in refused.reason
    assert read(sound_clip, max_decoded_bytes=400_000, frame_size=32).status == "ok"


@pytest.mark.fault(9)
def test_small_files_that_unfold_are_refused(make_clip):
    wide = make_clip("wide.mp4", size=(3000, 4000), seconds=0.2, audio_codec=None)
    assert wide.stat().st_size < 500_000
    clip = read(wide)
    assert clip.status == "refused"
    assert "4000x3000" in clip.reason
    long = make_clip("long.mkv", size=(32, 32), times=[0.0, 1.0, 4 * 3600.0], audio_codec=None)
    clip = read(long)
    assert clip.status == "refused"
    assert "max_seconds" in clip.reason


def test_a_window_after_the_end_has_no_picture(sound_clip):
    clip = read(sound_clip, start=10.0)
    assert clip.status == "no_video"
    assert "end" in clip.reason


def test_settings_that_make_no_whole_number_of_frames_are_the_users_error(sound_clip):
    with pytest.raises(PipelineError, match="frames_per_second"):
        decode_clip(sound_clip, start=0, segments=4, segment_seconds=0.3, settings=SETTINGS)


def test_a_decord_answer_that_disagrees_with_the_packets_is_not_taken(make_clip):
    path = make_clip("fine.mp4", seconds=2.0)
    assert read(path, decoder="decord", segments=2).decoder == "decord"
    assert read(path, segments=2).decoder == "pyav"


def test_importing_the_decoder_does_not_import_torch():
    code = "import sys, pipeline.media.clip, pipeline.media.guard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def manifest_rows() -> list[dict[str, str]]:
    if not (SHARED / "manifest.csv").is_file():
        return []
    with open(SHARED / "manifest.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(not manifest_rows(), reason="the shared real clips are not on this machine")
def test_every_real_file_gives_arrays_or_a_reason():
    rows = {str(SHARED / row["file"]): row for row in manifest_rows()}
    settings = MediaSettings(frame_size=64)
    function = partial(decode_clip, start=0.0, segments=5, segment_seconds=1.0, settings=settings)
    statuses = {}
    for path, clip in run_guarded(function, rows, workers=2, timeout_seconds=60, memory_mb=4096):
        assert not isinstance(clip, Failure), (path, clip)
        check_arrays(clip, 5)
        statuses[path] = clip.status
        row = rows[path]
        if row["n_video"] == "0":
            assert clip.status in {"no_video", "unreadable"}, path
        elif row["n_audio"] == "0" and not row["decode_error"]:
            assert clip.status in {"silent", "unreadable"}, path
        if "/av/" in path:
            assert clip.status == ("silent" if row["n_audio"] == "0" else "ok" if float(row["duration"]) > 4.9 else "padded"), path
    assert len(statuses) == len(rows) > 90
    bad = {Path(path).name for path, status in statuses.items() if status in BAD}
    assert 3 <= len(bad) <= 12, bad


@pytest.mark.skipif(not (SHARED / "odd").is_dir(), reason="the shared real clips are not on this machine")
def test_a_late_window_of_a_long_file_is_read():
    path = SHARED / "odd" / "media__long_180p_av1.mp4"
    clip = decode_clip(path, start=340.0, segments=10, segment_seconds=1.0, settings=SETTINGS)
    assert clip.status == "ok"


def with_picture_durations(source: Path, factor: int) -> Path:
    """``source`` with every duration in the table of its pictures (box ``stts``, ISO 14496-12, 8.6.1.2) multiplied by ``factor``."""
    data = bytearray(source.read_bytes())
    table = data.index(b"stts")  # of the first track: the pictures
    (entries,) = struct.unpack_from(">I", data, table + 8)
    for place in range(table + 16, table + 16 + 8 * entries, 8):
        struct.pack_into(">I", data, place, factor * struct.unpack_from(">I", data, place)[0])
    target = source.with_name(f"slowed_{factor}.mp4")
    target.write_bytes(data)
    return target


def test_pictures_whose_clock_outlasts_the_file_are_not_held_for_seconds(make_clip):
    """The sound still lasts its 4 s: no stream ends early, yet nearly all pictures would be missing, one standing for seconds."""
    source = make_clip(seconds=4.0)
    assert read(with_picture_durations(source, 1)).status == "ok"
    for factor in (4, 1000):
        clip = read(with_picture_durations(source, factor))
        assert clip.status == "unreadable"
        assert says(clip.reason, "clock", "pictures", "40 ")
