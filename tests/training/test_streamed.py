"""Features that do not fit into memory are read batch by batch: the same bytes, little memory, and a store that changes is noticed."""

from __future__ import annotations

import os
import shutil
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from kills import kill_at
from test_first_network import T, inputs  # noqa: F401  (a fixture)

from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore, shard_name, write_documents
from pipeline.tasks import TASKS
from pipeline.training import loop, placement, streams
from pipeline.training.data import load_split
from pipeline.training.evaluate import evaluate_run
from pipeline.training.placement import feature_bytes, may_be_resident, training_splits
from pipeline.training.settings import TrainSettings
from pipeline.training.train import train_run
from tests.wording import says

RESIDENT = TrainSettings(device="cpu", checkpoint_seconds=0)
STREAMED = RESIDENT.model_copy(update={"resident_gb": 0.0})
CPU = torch.device("cpu")


def train(inputs, directory, settings):  # noqa: F811
    directory.mkdir(exist_ok=True)
    train_run(inputs, settings, directory, directory.parent / "live")
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture
def chunks_read(monkeypatch):
    """Collects the sizes of the chunks that the threads read."""
    fill, sizes = streams.Stored._fill, []

    def noted(stored, memory, rows):
        sizes.append(len(rows))
        return fill(stored, memory, rows)

    monkeypatch.setattr(streams.Stored, "_fill", noted)
    return sizes


@pytest.mark.fault(42)
def test_streamed_and_resident_runs_are_equal_to_the_byte_also_after_a_kill(inputs, tmp_path, monkeypatch, chunks_read):  # noqa: F811
    """With a motion stream and a first network; weights, curves, scores; killed within an epoch of the second network."""
    expected = train(inputs, tmp_path / "resident", RESIDENT)
    assert not chunks_read
    kill_at(monkeypatch, 14)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "streamed", STREAMED)
    assert train(inputs, tmp_path / "streamed", STREAMED) == expected
    assert max(chunks_read) == 4
    scores = []
    for settings in (RESIDENT, STREAMED):
        (tmp_path / "scores").mkdir()
        evaluate_run(inputs, tmp_path / "streamed", settings, tmp_path / "scores")
        scores.append({path.name: path.read_bytes() for path in (tmp_path / "scores").iterdir()})
        shutil.rmtree(tmp_path / "scores")
    assert scores[0] == scores[1]
    assert len(scores[0]) == 4


def test_no_limit_of_memory_and_no_logger_is_part_of_a_runs_key(inputs):  # noqa: F811
    assert inputs.fingerprint(STREAMED) == inputs.fingerprint(RESIDENT.model_copy(update={"loggers": ["csv"]}))
    assert inputs.fingerprint(STREAMED) != inputs.fingerprint(RESIDENT.model_copy(update={"precision": "64-true"}))


def test_the_limit_counts_all_streams_of_all_splits_and_copies(inputs, monkeypatch, capsys):  # noqa: F811
    plain, watched = (training_splits(inputs, RESIDENT.model_copy(update={"published_protocol": protocol})) for protocol in (False, True))
    entry = 4 * T * (2 * 5 + 6 + 3)
    assert feature_bytes(plain) == 14 * entry
    assert feature_bytes(watched) == 18 * entry

    def fits(size, copies=1):
        return may_be_resident("run", plain, CPU, RESIDENT.model_copy(update={"resident_gb": size / 1e9}), copies)

    assert fits(14 * entry)
    assert fits(28 * entry, copies=2)
    assert capsys.readouterr().out == ""
    assert not fits(28 * entry - 1, copies=2)
    assert says(capsys.readouterr().out, "run: ", "from disk", "2 copies", "train.resident_gb")
    monkeypatch.setattr(placement, "free_memory", lambda device: 14 * entry)
    assert not may_be_resident("run", plain, CPU, RESIDENT)
    monkeypatch.setattr(placement, "free_memory", lambda device: 14 * entry / 0.6 + 1)
    assert may_be_resident("run", plain, CPU, RESIDENT)


@pytest.fixture(scope="module")
def long_store(tmp_path_factory):
    """60 clips of 4 segments in shards of 16, with audio in float16 that names clip and segment, some padded."""
    directory = tmp_path_factory.mktemp("long")
    for stream, shape in {"visual": (2, 3), "audio": (2,)}.items():
        numbers = np.arange(60 * T * np.prod(shape), dtype=np.float16).reshape(60, T, *shape)
        for shard in range(4):
            np.save(directory / shard_name(stream, shard), numbers[16 * shard : 16 * shard + 16])
    facts = {"status": "ok", "visual_valid": [True] * T, "audio_valid": [True] * T, "visual_key": "", "audio_key": ""}
    valid = [[True] * (T - 1) + [n % 7 > 0] for n in range(60)]
    records = [{"clip": f"c{n}", "shard": n // 16, "offset": n % 16, "valid": valid[n], **facts} for n in range(60)]
    write_documents(
        directory, records, {"segments": T, "segment_seconds": 1.0, "dtype": "float16", "shapes": {"visual": [2, 3], "audio": [2]}}
    )
    return directory


@pytest.fixture
def split(long_store, tmp_path):
    shutil.copytree(long_store, tmp_path / "store")
    index = pd.DataFrame({"row": range(60), "clip": [f"c{n}" for n in range(60)], "split": "train", "labels": [["a"]] * 60})
    index["events"] = [[]] * 60
    return load_split(FeatureStore(tmp_path / "store"), index, ["a"], "train", TASKS.get("avel"))


def test_batches_in_random_order_are_those_of_memory_and_know_whether_they_are_full(split):
    resident = split.to(CPU, split.stored.resident())
    chunks = list(torch.randperm(60).split(7))
    pairs = list(zip(split.batches(chunks, torch.float32), resident.batches(chunks, torch.float32), chunks, strict=True))
    for (batch, targets), (expected, expected_targets), rows in pairs:
        assert batch.audio[:, 0, 0].tolist() == (8 * rows).tolist()
        assert all(torch.equal(*both) for both in zip(batch.tensors().values(), expected.tensors().values(), strict=True))
        assert torch.equal(targets.segments, expected_targets.segments)
        assert batch.full == expected.full == bool((rows % 7 > 0).all())
    assert {batch.full for (batch, _), *_ in pairs} == {True, False}


def test_few_rows_are_in_memory_however_many_there_are(split, monkeypatch):
    """Rows of chunks that were read and not yet dropped; the reader goes on while the training takes its time."""
    memory, alive, most = streams.Stored._memory, 0, 0

    def counted(stored, count):
        nonlocal alive, most
        alive, values = alive + count, memory(stored, count)
        most = max(most, alive)

        def dropped():
            nonlocal alive
            alive -= count

        weakref.finalize(values["visual"], dropped)
        return values

    monkeypatch.setattr(streams.Stored, "_memory", counted)
    seen = 0
    for batch, _ in split.batches(torch.arange(60).split(4), torch.float64):
        seen += len(batch.audio)
    assert seen == 60
    assert 4 <= most <= 4 * (streams.AHEAD + 3)  # waiting, being handed over and being dropped


def test_an_abandoned_epoch_stops_its_threads(split, chunks_read):
    batches = split.batches(torch.arange(60).split(2), torch.float32)
    next(batches)
    batches.close()
    assert len(chunks_read) <= streams.AHEAD + 2


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def replace_file(path):
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


@pytest.mark.fault(41)
@pytest.mark.parametrize("change", [cut, overwrite, replace_file, os.remove])
def test_a_store_that_changes_under_a_training_is_named_before_a_changed_number_is_used(split, tmp_path, change):
    """A memory map that is cut short would kill the process instead."""
    path = tmp_path / "store" / shard_name("visual", 2)
    batches = split.batches(torch.arange(60).split(4), torch.float32)
    next(batches)
    change(path)
    with pytest.raises(PipelineError) as error:
        for batch, _ in batches:
            assert (batch.visual.flatten(1).diff() == 1).all()
    assert says(str(error.value), str(path), "changed", "kept", "run again")
    with pytest.raises(PipelineError, match="changed"):
        split.stored.store.check_unchanged()


def test_a_store_that_is_only_touched_or_copied_is_the_same(split, tmp_path):
    path = tmp_path / "store" / shard_name("visual", 2)
    expected = split.stored.read("visual")
    os.utime(path, (1, 1))
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)
    assert torch.equal(split.stored.read("visual"), expected)
    split.stored.store.check_unchanged()


@pytest.mark.fault(41)
def test_features_replaced_during_a_resident_training_leave_no_weights_for_them(inputs, tmp_path, monkeypatch):  # noqa: F811
    """DVC would take the new features for those of the weights."""
    close, path = loop.Trainer.close_epoch, inputs.store.directory / shard_name("audio", 0)

    def changed(trainer):
        cut(path)
        close(trainer)

    monkeypatch.setattr(loop.Trainer, "close_epoch", changed)
    inputs.settings["recipe"]["epochs"] = 1
    with pytest.raises(PipelineError, match=r"audio-000\.npy was changed by another program"):
        train(inputs, tmp_path / "run", RESIDENT)
    assert not list((tmp_path / "run").glob("seed-3.safetensors"))
