import errno
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.cache import Cache, CacheError, Store, file_sha256
from pipeline.encoders.waveform import resample
from pipeline.errors import PipelineError
from pipeline.media import decoding
from pipeline.media.audio import AUDIBLE_RATES
from pipeline.media.clip import decode_clip
from pipeline.media.decoding import check_bad_share, decode_clips, load_decoded, make_jobs, summary
from pipeline.media.guard import Crashed, Failed, TimedOut
from pipeline.media.job import KIND, Job
from pipeline.media.settings import MediaSettings
from pipeline.media.unread import unread_films, with_unread
from tests.wording import says

SETTINGS = MediaSettings(frames_per_second=1, workers=1)


def job(path: Path, cache: Cache, settings: MediaSettings = SETTINGS) -> Job:
    return Job(path.name, str(path), file_sha256(path), 0.0, 3, 1.0, settings, cache.root)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.mark.fault(1)
def test_every_clip_gets_a_verdict_and_good_ones_their_arrays(make_clip, cache, tmp_path):
    good = make_clip("good.mp4", seconds=3, audio_seconds=3)
    bad = tmp_path / "bad.mp4"
    bad.write_text("<html>", encoding="utf-8")
    jobs = [job(good, cache), job(bad, cache)]
    manifest = decode_clips(jobs, ["gone"], SETTINGS).set_index("clip")
    assert manifest["status"].to_dict() == {"bad.mp4": "unreadable", "gone": "missing", "good.mp4": "ok"}
    assert manifest.loc["gone", "reason"]
    frames, waveform, rate = load_decoded(cache, "good.mp4", jobs[0].key)
    whole = decode_clip(good, start=0.0, segments=3, segment_seconds=1.0, settings=SETTINGS)
    np.testing.assert_array_equal(frames, whole.frames)
    np.testing.assert_array_equal(waveform, whole.waveform)
    assert rate == whole.sample_rate == 16000
    assert manifest.loc["good.mp4", "sample_rate"] == 16000
    assert summary(manifest) == "3 clips: 1 unreadable, 1 missing, 1 ok"


def test_cached_clips_are_not_decoded_again_bad_verdicts_included(make_clip, cache, tmp_path, monkeypatch):
    bad = tmp_path / "bad.mp4"
    bad.write_text("<html>", encoding="utf-8")
    jobs = [job(make_clip("good.mp4", seconds=3, audio_seconds=3), cache), job(bad, cache)]
    first = decode_clips(jobs, [], SETTINGS)
    given = []
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **_: given.extend(todo) or iter(()))
    pd.testing.assert_frame_equal(decode_clips(jobs, [], SETTINGS), first)
    assert given == []


@pytest.mark.fault(12)
def test_two_names_of_the_same_bytes_are_decoded_once(make_clip, cache, tmp_path, monkeypatch):
    clip = make_clip("a.mp4", seconds=3, audio_seconds=3)
    twin = tmp_path / "b.mp4"
    twin.write_bytes(clip.read_bytes())
    given = []
    real = decoding.run_guarded
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **options: given.extend(todo) or real(function, todo, **options))
    manifest = decode_clips([job(clip, cache), job(twin, cache)], [], SETTINGS)
    assert len(given) == 1
    assert manifest["key"].nunique() == 1
    assert list(manifest["status"]) == ["ok", "ok"]


@pytest.mark.fault(25)
def test_the_key_follows_what_moves_the_numbers_and_nothing_else(make_clip, cache):
    base = job(make_clip("a.mp4", seconds=1), cache)
    working = {"workers": 7, "timeout_seconds": 9.0, "memory_mb": 100, "max_bad_fraction": 0.5, "keep": "verdicts"}
    assert replace(base, settings=MediaSettings(frames_per_second=1, **working), clip="other", file="elsewhere").key == base.key
    moved = [replace(base, sha256="0" * 64), replace(base, start=1.0), replace(base, segments=4), replace(base, segment_seconds=2.0)]
    for setting in ({"frames_per_second": 2}, {"frame_offset": 0}, {"frame_size": 64}, {"decoder": "pyav"}, {"min_coverage": 0.5}):
        moved.append(replace(base, settings=MediaSettings(**{"frames_per_second": 1, **setting})))
    assert len({base.key, *(other.key for other in moved)}) == 1 + len(moved)


def test_an_evicted_entry_is_decoded_again_and_a_vanished_file_is_named(make_clip, cache):
    clip = make_clip("a.mp4", seconds=3, audio_seconds=3)
    one = job(clip, cache)
    decode_clips([one], [], SETTINGS)
    before, _, _ = load_decoded(cache, "a.mp4", one.key)
    cache.path(KIND, one.key).unlink()
    after, _, _ = load_decoded(cache, "a.mp4", one.key, one)
    np.testing.assert_array_equal(before, after)
    cache.path(KIND, one.key).unlink(missing_ok=True)  # under `auto` frames that were lost are not stored again
    clip.unlink()
    with pytest.raises(PipelineError, match=r"clip 'a\.mp4'"):
        load_decoded(cache, "a.mp4", one.key, one)


@pytest.mark.parametrize(
    ("outcome", "status"), [(Crashed("signal 11"), "crashed"), (TimedOut("60 s"), "timeout"), (Failed("ValueError: odd"), "unreadable")]
)
@pytest.mark.fault(8)
def test_a_clip_that_takes_its_child_down_has_a_status_and_is_tried_again_later(make_clip, cache, monkeypatch, outcome, status):
    one = job(make_clip("a.mp4", seconds=1), cache)
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **_: iter([(one, outcome)]))
    manifest = decode_clips([one], [], SETTINGS)
    assert (manifest["status"][0], manifest["reason"][0]) == (status, outcome.reason)
    assert not cache.has(KIND, one.key)


@pytest.mark.parametrize(
    "fault", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied"), FileExistsError(17, "x")]
)
@pytest.mark.fault(22)
def test_a_cache_that_cannot_be_written_does_not_count_against_the_clip(make_clip, cache, monkeypatch, fault):
    one = job(make_clip("a.mp4", seconds=1), cache)
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **_: iter([(one, function(one))]))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(fault))
    words = "disk is full" if fault.errno == errno.ENOSPC else fault.strerror
    with pytest.raises(PipelineError, match=rf"clip 'a\.mp4': .*{cache.root} .*{words}"):
        decode_clips([one], [], SETTINGS)


def test_a_file_where_the_cache_should_be_ends_decode_with_one_sentence(make_clip, cache):
    """The error arises in the child process."""
    cache.root.mkdir()
    one = job(make_clip("a.mp4", seconds=1), cache)
    with pytest.raises(PipelineError, match=r"cache .*Not a directory"):
        list(decoding.decode_each([replace(one, cache_root=Path(one.file))], SETTINGS))
    (cache.root / KIND).write_bytes(b"")
    with pytest.raises(PipelineError, match=r"cache .*Not a directory"):
        decode_clips([one], [], SETTINGS)


def test_what_one_machine_decoded_into_a_store_another_finds(bucket, make_clip, tmp_path, monkeypatch, capsys):
    one = job(make_clip("a.mp4", seconds=1), Cache(Store("s3://clips/lab", tmp_path / "one", 10**9)))
    bucket.fails = lambda method, path: 500 if method == "PUT" and path.endswith(".npz") else None
    with pytest.raises(CacheError, match=r"s3://clips/lab .* tries failed"):
        decode_clips([one], [], SETTINGS)
    bucket.fails = lambda method, path: None
    monkeypatch.setattr("pipeline.media.decoding.run_guarded", lambda *_, **__: iter(()))  # nothing is decoded again
    manifest = decode_clips([one], [], SETTINGS)
    other = replace(one, cache_root=Store("s3://clips/lab", tmp_path / "other", 10**9))
    assert decode_clips([other], [], SETTINGS).equals(manifest)
    assert says(capsys.readouterr().out, "1 of 1 clips decoded now", "0 of 1 clips decoded now", "0 of 1 clips decoded now")
    frames, _, _ = load_decoded(Cache(other.cache_root), "a.mp4", other.key)
    assert len(frames) == 3


def test_an_error_while_decoding_counts_against_the_clip_whatever_its_name(make_clip, cache, monkeypatch):
    one = job(make_clip("a.mp4", seconds=1), cache)
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **_: iter([(one, Failed("OSError: [Errno 5] of the decoder"))]))
    assert decode_clips([one], [], SETTINGS)["status"].tolist() == ["unreadable"]


@pytest.mark.parametrize("rate", [1, 99, 999, 1000, 1001, 11_127, 768_000, 768_001, 1_234_567])
@pytest.mark.parametrize("missing", ["zeros", "drop"])
@pytest.mark.fault(7)
def test_every_audio_encoder_takes_the_sound_that_decode_accepts_at_any_stated_rate(make_clip, cache, monkeypatch, rate, missing):
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **_: ((each, function(each)) for each in todo))
    clip = make_clip("a.mkv", seconds=2, audio_codec="pcm_s16le", rate=8000, codec="ffv1")
    written, stated = (b"\xb5\x88" + struct.pack(">d", float(value)) for value in (8000, rate))  # Matroska's SamplingFrequency
    content = clip.read_bytes()
    assert content.count(written) == 1
    clip.write_bytes(content.replace(written, stated))
    one = job(clip, cache, SETTINGS.model_copy(update={"on_missing_audio": missing, "min_coverage": 0.0}))
    manifest = decode_clips([one], [], SETTINGS)
    if rate not in AUDIBLE_RATES:
        assert manifest["status"][0] == {"zeros": "silent", "drop": "no_audio"}[missing]
        assert f"{rate} Hz" in manifest["reason"][0]
    if missing == "zeros":
        _, waveform, heard_at = load_decoded(cache, "a.mkv", one.key)
        assert heard_at == (rate if rate in AUDIBLE_RATES else 16_000)
        samples = resample(torch.from_numpy(waveform), heard_at, 16_000)
        assert abs(len(samples) - 48_000) <= 480
        assert torch.isfinite(samples).all()


def test_rows_of_one_clip_are_one_job(cache):
    index = pd.DataFrame(
        {"clip": ["a", "b", "a", "c"], "file": ["a.mp4", "b.mp4", "a.mp4", None], "sha256": ["1", "2", "1", None], "start": [0.0] * 4}
    )
    jobs, missing = make_jobs(index, 10, 1.0, SETTINGS, cache)
    assert list(jobs) == ["a", "b"]
    assert missing == ["c"]


@pytest.mark.fault(6)
def test_clips_shorter_and_longer_than_their_window_are_both_counted(make_clip, cache, tmp_path):
    """Windows of 3 s: a half second more is longer, the rest of a sound's last block is not."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    clips = [make_clip("short.mp4", seconds=2), make_clip("fits.mp4", seconds=3), make_clip("long.mp4", seconds=3.6), bad]
    jobs = {clip.name: job(clip, cache) for clip in clips}
    jobs["late.mp4"] = replace(job(make_clip("late.mp4", seconds=3.6), cache), start=0.5)
    manifest = decode_clips(list(jobs.values()), ["gone"], SETTINGS)
    assert summary(manifest) == "6 clips: 3 ok, 1 unreadable, 1 missing, 1 padded"
    known = with_unread(manifest, jobs).set_index("clip")
    assert known["unread"].dropna().to_dict() == {"long.mp4": pytest.approx(0.6, abs=0.05)}
    assert known["reason"]["long.mp4"] == "film of 3.6 s: only the first 3 s are used"
    (line,) = unread_films(known.reset_index())
    assert says(line, ": 1 (long.mp4: 3 of 3.6 s)", "dataset.windows")
    assert with_unread(manifest.head(0), {}).columns[-1] == "unread"


@pytest.mark.fault(1)
def test_too_many_bad_clips_are_named_ten_at_most():
    manifest = pd.DataFrame({"clip": [f"c{n:02}" for n in range(40)], "status": ["truncated"] * 12 + ["ok"] * 28, "reason": ["cut"] * 40})
    check_bad_share(manifest, 0.3)
    with pytest.raises(PipelineError) as caught:
        check_bad_share(manifest, 0.29)
    assert str(caught.value).count("truncated: cut") == 10
    assert "12 of 40 clips" in str(caught.value)


def test_a_child_process_imports_little():
    """Every child pays for what it imports: pandas alone costs as much as the decoding of several clips."""
    script = "import sys, pipeline.media.job, pipeline.media.guard; print(*{'pandas', 'pyarrow', 'torch', 'tqdm'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, encoding="utf-8").stdout == "\n"
