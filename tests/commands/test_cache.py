"""``python -m pipeline cache``, as a user types it: what it shows, and what it must never remove."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from tiny_project import copy_tree

from pipeline.cache import Cache
from tests.wording import says

STRANGE = "ef" * 32
KINDS = {"decoded": 14, "features": 14 * 3}  # clips; of the two sets, which share their sound. And an entry with the files' hashes


@pytest.fixture
def cache(tiny, tmp_path, monkeypatch):
    """The tiny project's params and index, a copy of its cache, and an entry of each kind that nothing needs, a month old."""
    project = tiny[0]
    copy_tree(project.cache, tmp_path / "cache")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/index").symlink_to(project.root / "data/index")
    (tmp_path / "data/raw").symlink_to(project.root / "data/raw")
    (tmp_path / "data/clips").symlink_to(project.root / "data/clips")
    shutil.copy(project.root / "params.yaml", tmp_path)
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    cache = Cache()
    for kind in KINDS:
        cache.put(kind, STRANGE, {"x": np.zeros(1000)})
        os.utime(cache.path(kind, STRANGE), (1e9, 1e9))
    return cache


def counts(cache):
    listed = list(cache.entries())
    return {kind: sum(each.kind == kind for each in listed) for kind in KINDS}


def test_what_the_project_needs_is_shown_and_stays(cache, command):
    code, out, _ = command("cache")
    assert code == 0
    assert says(out, str(cache.root), f"{sum(KINDS.values()) + 3} entries")
    for kind, needed in KINDS.items():
        [line] = [line for line in out.splitlines() if line.startswith(kind)]
        assert line.split()[1] == str(needed + 1)
        assert says(line, f"{needed} of them")
    code, out, _ = command("cache", "--older-than", "0h", "--dry-run")
    assert says(out, "decoded: 1 entries would be removed")
    assert counts(cache) == {kind: needed + 1 for kind, needed in KINDS.items()}
    _, out, _ = command("cache", "--kind", "decoded", "--not-in", "params", "--older-than", "10d")
    assert says(out, "decoded: 1 entries removed")
    assert counts(cache) == {"decoded": KINDS["decoded"], "features": KINDS["features"] + 1}
    command("cache", "--older-than", "0h")
    assert counts(cache) == KINDS
    assert says(command("cache", "--not-in", "params")[1], "nothing to remove")
    command("cache", "--kind", "decoded", "--all")
    assert counts(cache) == {"decoded": 0, "features": KINDS["features"]}


def test_without_an_index_nothing_goes_but_with_all(cache, command, tmp_path):
    (tmp_path / "data/index").unlink()
    _, out, _ = command("cache", "--not-in", "params")
    assert says(out, "decoded: none is removed", "index", "--all")
    assert counts(cache) == {kind: needed + 1 for kind, needed in KINDS.items()}
    assert says(command("cache")[1], "decoded", "?", "? decoded: ", "index")
    (tmp_path / "params.yaml").unlink()
    assert says(command("cache", "--not-in", "params")[2], "params.yaml", "no such file")
    command("cache", "--older-than", "1d", "--all")
    assert counts(cache) == KINDS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--all"], ["--older-than", "--kind", "--not-in"]),
        (["--dry-run"], ["--older-than", "--kind", "--not-in"]),
        (["--not-in", "params", "--all"], ["--all", "--not-in"]),
        (["--older-than", "30"], ["'30'", "30d"]),
        (["--kind", "decoded", "--kind", "decodd"], ["'decodd'", "'decoded'"]),
        (["--local-copy"], ["directory"]),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, words, cache, command):
    code, _, err = command("cache", *arguments)
    assert code == 2
    assert says(err, *words), err
    assert counts(cache) == {kind: needed + 1 for kind, needed in KINDS.items()}


def test_of_a_url_the_store_and_the_copy_are_two_places(bucket, command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AVEL_CACHE", "s3://clips/lab")
    cache = Cache()
    cache.put("decoded", STRANGE, {"x": np.zeros(1000)})
    _, out, _ = command("cache")
    assert says(out, "s3://clips/lab: 1 entries", "decoded", "local copy: ", str(tmp_path))
    assert says(command("cache", "--local-copy", "--kind", "decoded", "--all")[1], "decoded: 1 entries removed")
    assert not cache.path("decoded", STRANGE).exists()
    assert cache.has("decoded", STRANGE)
    unfinished = cache._entries.outbox.partial("decoded", STRANGE)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    os.utime(unfinished, (1e9, 1e9))
    assert says(command("cache", "--older-than", "0h", "--all")[1], "1 unfinished files")
    assert not unfinished.exists()
    assert not cache.has("decoded", STRANGE)
