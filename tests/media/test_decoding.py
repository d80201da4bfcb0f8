from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.cache import Cache, file_sha256
from pipeline.errors import PipelineError
from pipeline.media import decoding
from pipeline.media.clip import decode_clip
from pipeline.media.decoding import KIND, Job, check_bad_share, decode_clips, load_decoded, make_jobs, summary
from pipeline.media.guard import Crashed, Failed, TimedOut
from pipeline.media.settings import MediaSettings

SETTINGS = MediaSettings(frames_per_second=1, workers=1)


def job(path: Path, cache: Cache, settings: MediaSettings = SETTINGS) -> Job:
    return Job(path.name, str(path), file_sha256(path), 0.0, 3, 1.0, settings, cache.root)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


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


def test_what_is_in_the_cache_is_not_decoded_again_bad_verdicts_included(make_clip, cache, tmp_path, monkeypatch):
    bad = tmp_path / "bad.mp4"
    bad.write_text("<html>", encoding="utf-8")
    jobs = [job(make_clip("good.mp4", seconds=3, audio_seconds=3), cache), job(bad, cache)]
    first = decode_clips(jobs, [], SETTINGS)
    given = []
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **_: given.extend(todo) or iter(()))
    pd.testing.assert_frame_equal(decode_clips(jobs, [], SETTINGS), first)
    assert given == []


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


def test_the_key_follows_what_moves_the_numbers_and_nothing_else(make_clip, cache):
    base = job(make_clip("a.mp4", seconds=1), cache)
    working = {"workers": 7, "timeout_seconds": 9.0, "memory_mb": 100, "max_bad_fraction": 0.5}
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
    cache.path(KIND, one.key).unlink()
    clip.unlink()
    with pytest.raises(PipelineError, match=r"clip 'a\.mp4'"):
        load_decoded(cache, "a.mp4", one.key, one)


@pytest.mark.parametrize(
    ("outcome", "status"), [(Crashed("signal 11"), "crashed"), (TimedOut("60 s"), "timeout"), (Failed("ValueError: odd"), "unreadable")]
)
def test_a_clip_that_takes_its_child_down_has_a_status_and_is_tried_again_later(make_clip, cache, monkeypatch, outcome, status):
    one = job(make_clip("a.mp4", seconds=1), cache)
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **_: iter([(one, outcome)]))
    manifest = decode_clips([one], [], SETTINGS)
    assert (manifest["status"][0], manifest["reason"][0]) == (status, outcome.reason)
    assert not cache.has(KIND, one.key)


def test_a_full_disk_is_no_fault_of_the_clip(make_clip, cache, monkeypatch):
    one = job(make_clip("a.mp4", seconds=1), cache)
    full = Failed("OSError: [Errno 28] No space left on device")
    monkeypatch.setattr(decoding, "run_guarded", lambda function, todo, **_: iter([(one, full)]))
    with pytest.raises(PipelineError, match=r"cannot be written.*No space left"):
        decode_clips([one], [], SETTINGS)


def test_rows_of_one_clip_are_one_job(cache):
    index = pd.DataFrame(
        {"clip": ["a", "b", "a", "c"], "file": ["a.mp4", "b.mp4", "a.mp4", None], "sha256": ["1", "2", "1", None], "start": [0.0] * 4}
    )
    jobs, missing = make_jobs(index, 10, 1.0, SETTINGS, cache)
    assert list(jobs) == ["a", "b"]
    assert missing == ["c"]


def test_too_many_bad_clips_are_named_ten_at_most():
    manifest = pd.DataFrame({"clip": [f"c{n:02}" for n in range(40)], "status": ["truncated"] * 12 + ["ok"] * 28, "reason": ["cut"] * 40})
    check_bad_share(manifest, 0.3)
    with pytest.raises(PipelineError) as caught:
        check_bad_share(manifest, 0.29)
    assert str(caught.value).count("truncated: cut") == 10
    assert "12 of 40 clips are bad" in str(caught.value)
