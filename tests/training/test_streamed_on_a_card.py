"""A GPU: features on the card, streamed to it, and shared by two processes give the same weights."""

from __future__ import annotations

import pytest
import torch
from test_first_network import inputs  # noqa: F401  (a fixture)

from pipeline.training import streams
from pipeline.training.placement import SharedFeatures, placed, training_splits
from pipeline.training.settings import TrainSettings
from pipeline.training.train import features_for_seeds, train_run

if not torch.cuda.is_available():
    pytest.skip("torch finds no usable GPU here", allow_module_level=True)

CUDA = torch.device("cuda")
RESIDENT = TrainSettings(device="cuda", checkpoint_seconds=1e6)
STREAMED = RESIDENT.model_copy(update={"resident_gb": 0.0})


def weights(inputs, directory, settings, at_once=1):  # noqa: F811
    directory.mkdir()
    train_run(inputs, settings, directory, directory / "live", at_once)
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.safetensors"))}


@pytest.fixture
def two_seeds(inputs):  # noqa: F811
    object.__setattr__(inputs, "run", inputs.run.model_copy(update={"seeds": [3, 4]}))
    return inputs


def test_chunks_on_their_way_to_a_card_are_those_of_the_store(two_seeds, monkeypatch):
    """Many more chunks than there is pinned memory for, while the card is busy, so memory used too early would show."""
    monkeypatch.setattr(streams, "LOADED_AT_ONCE", 3)
    splits = training_splits(two_seeds, RESIDENT)
    stored, resident = (placed(splits, CUDA, resident=flag)["train"] for flag in (False, True))
    expected = {stream: splits["train"].stored.read(stream) for stream in ("visual", "audio", "motion")}
    chunks = [torch.randperm(10)[:4] for _ in range(50)]
    busy = torch.randn(2048, 2048, device=CUDA)
    for data in (stored, resident):
        for (batch, targets), rows in zip(data.batches(chunks, torch.float32), chunks, strict=True):
            busy = torch.nn.functional.normalize(busy @ busy)
            assert batch.full
            found = {"visual": batch.visual, "audio": batch.audio, **batch.others}
            assert all(values.is_cuda and torch.equal(values.cpu(), expected[name][rows]) for name, values in found.items())
            assert targets.rows.cpu().tolist() == [splits["train"].rows[row] for row in rows]


def test_streamed_shared_and_alone_a_card_trains_the_same_weights(two_seeds, tmp_path, capfd):
    expected = weights(two_seeds, tmp_path / "resident", RESIDENT)
    assert len(expected) == 2
    assert weights(two_seeds, tmp_path / "streamed", STREAMED) == expected
    assert isinstance(features_for_seeds(two_seeds, RESIDENT, 2), SharedFeatures)
    capfd.readouterr()
    assert weights(two_seeds, tmp_path / "shared", RESIDENT, at_once=2) == expected
    output = "".join(capfd.readouterr())
    assert "cannot be shared" not in output
    assert "Warning" not in output
    assert weights(two_seeds, tmp_path / "side by side", STREAMED, at_once=2) == expected
