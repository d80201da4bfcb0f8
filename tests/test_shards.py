"""Shares of a stage's clips: ``--shard i/n`` fills the cache, beside other shares, and the plain stage publishes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.features.clip_encoder import ClipEncoder
from pipeline.features.extraction import Extraction
from pipeline.shards import Shard
from pipeline.stage import run
from stages import decode, extract
from tests.features.test_extraction import SETTINGS, World


@pytest.mark.parametrize(("keys", "count"), [(10, 3), (2, 5), (7, 1)])
def test_the_shares_of_one_count_are_disjoint_equal_in_size_and_all_there_is(keys, count):
    names = [f"{number:02}" for number in range(keys)]
    shares = [Shard(number, count).share(reversed(names + names)) for number in range(1, count + 1)]
    assert sorted(key for share in shares for key in share) == names
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["3/2", "0/4", "x", "1", "1/", "-1/2", "1/0", "1/2/3", "1/1000000000000"])
def test_a_share_that_is_none_is_refused_in_a_sentence(text, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["extract", "first", "--shard", text])
    with pytest.raises(SystemExit, match="1"):
        run("extract", lambda name, shard: pytest.fail("it ran"), takes="name", shards=True)
    assert f"extract: --shard '{text}'" in capsys.readouterr().err
    with pytest.raises(PipelineError):
        Shard.parse(text)


def test_shares_run_beside_each_other_and_the_same_share_does_not_run_twice(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    ran = []

    def body(name, shard=None):
        ran.append((name, str(shard)))
        for arguments in (["a", "--shard", "2/2"], ["--shard", "1/2", "extract@b"], ["a"]) if len(ran) == 1 else ():
            monkeypatch.setattr("sys.argv", ["extract", *arguments])
            run("extract", body, takes="name", shards=True)
        if len(ran) == 4:
            monkeypatch.setattr("sys.argv", ["extract", "a", "--shard", "1/2"])
            with pytest.raises(SystemExit):
                run("extract", body, takes="name", shards=True)

    monkeypatch.setattr("sys.argv", ["extract", "a", "--shard", "1/2"])
    run("extract", body, takes="name", shards=True)
    assert ran == [("a", "1/2"), ("a", "2/2"), ("b", "1/2"), ("a", "None")]
    assert "already running" in capsys.readouterr().err


def test_only_a_stage_with_shares_takes_one(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train", "a", "--shard", "1/2"])
    with pytest.raises(SystemExit, match="2"):
        run("train", print, takes="run")
    assert "usage: python -m stages.train RUN" in capsys.readouterr().err


@pytest.mark.fault(24)
@pytest.mark.filterwarnings("ignore:.*torch.jit.freeze")  # warnings are caught for all threads at a time
def test_two_shares_at_once_encode_every_clip_once(tmp_path, monkeypatch):
    whole = World(tmp_path / "alone", contents=(0, 1, 2, 3, 1))
    whole.extract(tmp_path / "expected")
    stored, store = [], ClipEncoder.store
    monkeypatch.setattr(ClipEncoder, "store", lambda self, made: (stored.append(made.clip.job.key), store(self, made)))
    world = World(tmp_path / "cache", contents=(0, 1, 2, 3, 1))
    manifest = pd.DataFrame(world.verdicts)
    with ThreadPoolExecutor(2) as pool:
        shares = [Extraction(SETTINGS, world.jobs, world.cache, 1) for _ in range(2)]
        said = list(pool.map(lambda each: shares[each - 1].fill(manifest, Shard(each, 2)), (1, 2)))
    assert sorted(stored) == sorted(2 * [job.key for job in list(world.jobs.values())[:4]])  # once for each of two modalities
    assert [line[-9:] for line in said] == ["2 encoded", "2 encoded"]
    (tmp_path / "store").mkdir()
    assert "5 clips stored, 0 encoded" in Extraction(SETTINGS, world.jobs, world.cache, 1).run(manifest, tmp_path / "store")
    assert world.bytes(tmp_path / "store") == whole.bytes(tmp_path / "expected")


def test_shares_of_both_stages_publish_nothing_and_the_plain_calls_find_all_done(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "fresh"))
    before = project.outs()
    for number in (1, 2):
        decode.main(Shard(number, 2))
    assert capsys.readouterr().out.count(": 7 clips: 7 ok") == 2
    for number in (1, 2):
        extract.main("second", Shard(number, 2))
    assert capsys.readouterr().out.count("7 of 14 clips, 7 encoded") == 2
    assert project.outs() == before
    decode.main()
    extract.main("second")
    assert (said := capsys.readouterr().out).count("0 of 14 clips decoded now") == 1
    assert "14 clips stored, 0 encoded" in said
    after = project.outs()
    assert {name for name in before if before[name] != after[name]} <= {"data/features/second/made_with.json"}
