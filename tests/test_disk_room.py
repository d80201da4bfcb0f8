"""What will be written is said beside what is free, and work that cannot fit stops with the settings that would make it smaller."""

import pytest

from pipeline import disk_room
from pipeline.cache import Cache, Store
from pipeline.disk import size_in_words
from pipeline.disk_room import Writing, check_room, in_cache, naming_shortage, room_of
from pipeline.errors import PipelineError
from tests.wording import says

GB = 10**9


@pytest.fixture
def ten_free(monkeypatch):
    monkeypatch.setattr(disk_room, "free_at", lambda _: 10 * GB)


def test_what_fits_is_said_and_goes_on(ten_free, tmp_path, capsys):
    check_room("decode", [Writing("frames of 7 clips", 8.5 * GB, tmp_path / "not" / "yet")], 1.0)
    assert says(capsys.readouterr().out, "decode: ", "8.5 GB", "frames of 7 clips", str(tmp_path / "not" / "yet"), "10 GB free")


def test_what_lies_on_one_disk_is_added_up_and_the_settings_that_help_are_named(ten_free, tmp_path):
    halves = [Writing("features", 5 * GB, tmp_path / "cache", ("features.a.dtype: float16",)), Writing("the store", 4.5 * GB, tmp_path)]
    check_room("extract", halves, 0.5)
    with pytest.raises(PipelineError) as stopped:
        check_room("extract", halves, 1.0)
    assert says(
        str(stopped.value), str(tmp_path / "cache"), "9.5 GB", "cache.min_free_gb", "1 GB", "500 MB are missing", "features.a.dtype"
    )


def test_no_room_is_needed_for_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(disk_room, "free_at", lambda _: 0)
    check_room("decode", [Writing("new clips", 0, tmp_path)], 1.0)
    assert says(capsys.readouterr().out, "nothing to write")


def test_of_a_cache_at_a_url_only_the_local_copy_can_be_compared(ten_free, tmp_path, capsys):
    cache = Cache.__new__(Cache)
    cache.root = Store("s3://bucket/clips", tmp_path / "copy", 4 * GB)
    check_room("decode", in_cache(cache, "frames", 900 * GB), 1.0)
    first, second = capsys.readouterr().out.splitlines()
    assert says(first, "900 GB", "s3://bucket/clips", "not say")
    assert says(second, "4 GB", str(tmp_path / "copy"), "10 GB free")
    assert room_of(cache) == 4 * GB
    with pytest.raises(PipelineError, match=r"cache\.local_gb"):
        check_room("decode", in_cache(cache, "frames", 900 * GB), 7.0)


def test_an_error_says_what_all_that_remains_lacks_and_is_not_hidden_where_nobody_knows(ten_free, tmp_path):
    def unknown():
        raise PipelineError("the store does not answer")

    for remaining, said in ((lambda: [Writing("frames", 12 * GB, tmp_path)], "2 GB are missing"), (lambda: [], ""), (unknown, "")):
        with pytest.raises(PipelineError) as stopped, naming_shortage(remaining):
            raise PipelineError("the disk is full")
        assert says(str(stopped.value), "the disk is full", said)
        assert "answer" not in str(stopped.value)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_600, "1 MB"), (171.2 * GB, "171 GB"), (2.5e12, "2,500 GB")],
)
def test_sizes_are_in_the_units_of_the_settings(count, words):
    assert size_in_words(count) == words
