"""Where the cache lies, and URLs that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import config
from pipeline.cache import CACHE_VARIABLE, Cache, CacheError, Store
from pipeline.cache.settings import CacheSettings
from pipeline.errors import InputProblems
from tests.wording import says


@pytest.fixture
def params(repository, tmp_path):
    """Writes params.yaml with a place of the cache."""
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    assert "  dir: null" in text

    def write(place):
        (tmp_path / "params.yaml").write_text(text.replace("  dir: null", f"  dir: {place!r}"), encoding="utf-8")
        return tmp_path / "params.yaml"

    return write


@pytest.mark.parametrize("place", ["s3://me:hush@clips/lab", "s3://hush@clips", "s3://clips/lab?secret=hush", "s3://clips#hush"])
def test_a_url_with_credentials_is_refused_and_not_repeated(place, params, monkeypatch):
    with pytest.raises(InputProblems) as error:
        config.load(params(place))
    monkeypatch.setenv(CACHE_VARIABLE, place)
    with pytest.raises(CacheError) as of_environment:
        Cache()
    assert says(str(error.value), "cache.dir", "credentials", "environment")
    assert says(str(of_environment.value), f"${CACHE_VARIABLE}", "credentials", "environment")
    assert "hush" not in str(error.value) + str(of_environment.value)


@pytest.mark.parametrize(
    ("place", "words"),
    [("s4://clips/lab", "s4://"), ("memory://lab", "one process"), ("s3:///lab", "bucket"), ("file://lab/clips", "three slashes")],
)
def test_a_url_that_can_be_no_cache_says_why(place, words, params):
    with pytest.raises(InputProblems) as error:
        config.load(params(place))
    assert says(str(error.value), "cache.dir", words)


def test_a_missing_package_names_its_extra(params, monkeypatch):
    def lacks(protocol):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr("fsspec.get_filesystem_class", lacks)
    with pytest.raises(InputProblems) as error:
        config.load(params("gs://clips/lab"))
    assert says(str(error.value), "cache.dir", "gs://", "pip install", "[gcs]")


def test_a_path_and_a_file_url_are_directories(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, f"file://{tmp_path}/with%20space")
    assert Cache().root == tmp_path / "with space"
    assert CacheSettings(dir=str(tmp_path)).place == Cache(f"file://{tmp_path}").root == tmp_path
    assert CacheSettings().place == tmp_path / "with space"


def test_the_copies_of_two_stores_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    one, two = (CacheSettings(dir=f"s3://clips/{name}/", local_gb=2.5).place for name in ("one", "two"))
    assert isinstance(one, Store)
    assert isinstance(two, Store)
    assert (str(one), one.local_bytes) == ("s3://clips/one", 2_500_000_000)
    assert one.local != two.local
    assert one.local.is_relative_to(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, "s3://clips/one")
    assert Cache().root == Store("s3://clips/one", Path("~/.cache/avel-pipeline/copies").expanduser() / one.local.name, 20_000_000_000)
    elsewhere = CacheSettings(dir="s3://clips/one", local_dir=tmp_path / "scratch").place
    assert elsewhere.local == tmp_path / "scratch" / "copies" / one.local.name
