"""Steps that a GPU only queues, taken on a CPU: what a graph would repeat is called again, with all else as it was when captured."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract import CLASSES, DENSE, PARSING, SUPPRESSION, build, random_batch, task_of
from lightning_fabric import Fabric

from pipeline.errors import PipelineError
from pipeline.tasks import TASKS
from pipeline.training import ahead, capture, loop
from pipeline.training.data import SplitData
from pipeline.training.settings import TrainSettings
from pipeline.training.streams import Resident
from tests.wording import one_says

CLIPS, BATCH = 11, 4  # batches of 4, 4 and 3
CMPAE = {"anchor": "cmpae", "anchor_settings": PARSING, "feedforward": 24}
CASES = {
    "cace_net": SUPPRESSION,
    "han": PARSING,
    "cmpae": PARSING,
    "coleaf": CMPAE,
    "dhhn": {**PARSING, "guide_heads": 2},  # with running means, and a rate of its own for two parts
    "cace_net_dense": {**DENSE, "dependency_width": 0, "threshold": 0.5},
}
every_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def queued(monkeypatch):
    """Take steps as on a GPU; the list grows by one with every graph captured."""
    captured: list[Any] = []
    monkeypatch.setattr(loop, "runs_ahead", lambda device: True)
    monkeypatch.setattr(ahead, "WARM_UP", 1)
    monkeypatch.setattr(capture.Graphs, "capture", lambda self, work: captured.append(work) or work)
    return captured


def trainer(name: str, directory, graphs="auto", seed: int = 1, **recipe) -> loop.Trainer:
    """In float64: where the true gradient is 0, Adam makes steps of the rounding of float32."""
    method = build(
        name, CASES[name], seed=3, recipe={"epochs": 5 if name == "coleaf" else 3, "batch_size": BATCH, "learning_rate": 1e-3, **recipe}
    )
    batch, truth = random_batch(CLIPS)
    clips = [f"clip{number}" for number in range(CLIPS)]
    features = Resident({"visual": batch.visual, "audio": batch.audio, **batch.others})
    data = SplitData(features, torch.ones_like(batch.mask), truth.told(method), list(range(CLIPS)), clips, [], CLASSES, 1.0)
    none = SplitData(features, batch.mask[:0], truth.told(method)[:0], [], [], [], CLASSES, 1.0)
    settings = TrainSettings(device="cpu", graphs=graphs, precision="64-true", checkpoint_seconds=1e6)
    fabric = Fabric(accelerator="cpu", devices=1, precision="64-true")
    places = directory / "checkpoint", directory / "live"
    made = loop.Trainer(fabric, method, TASKS.get(task_of(name)), data, none, settings, *places, "run, seed 3")
    torch.manual_seed(seed)
    return made


def assert_same(first: loop.TrainingState, second: loop.TrainingState, **tolerance: float) -> None:
    assert first.best_weights is not None
    assert second.best_weights is not None
    for name, weight in first.best_weights.items():
        torch.testing.assert_close(weight, second.best_weights[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)
    for one, other in zip(first.history, second.history, strict=True):
        assert list(one) == list(other)
        assert one == pytest.approx(other, rel=tolerance["rtol"], abs=tolerance["atol"])


@every_case
def test_captured_queued_and_taken_in_turn_train_the_same_weights(name, tmp_path, monkeypatch, queued):
    """Captured and not: to the last bit. The fused optimizer of a GPU rounds otherwise than that of a CPU."""
    schedule: dict[str, Any] = {"milestones": [2], "iteration_milestones": [4], "clip_norm": 0.5 if name == "cace_net" else None}
    if name == "cace_net_dense":  # an average of the weights, and a rate that differs in every step
        schedule = {"warmup_epochs": 1}
    captured = trainer(name, tmp_path / "captured", **schedule).run()
    assert queued
    number = len(queued)
    assert_same(captured, trainer(name, tmp_path / "queued", graphs="off", **schedule).run(), atol=0, rtol=0)
    assert len(queued) == number
    monkeypatch.setattr(loop, "runs_ahead", lambda device: False)
    assert_same(captured, trainer(name, tmp_path / "in turn", **schedule).run(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_optimizer_can_be_captured(optimizer, tmp_path, monkeypatch, queued):
    recipe = {"optimizer": optimizer, "weight_decay": 0.1, "milestones": [2]}
    captured = trainer("han", tmp_path / "captured", **recipe).run()
    assert queued
    monkeypatch.setattr(loop, "runs_ahead", lambda device: False)
    assert_same(captured, trainer("han", tmp_path / "in turn", **recipe).run(), atol=1e-6, rtol=1e-6)


def test_a_graph_is_captured_for_each_phase_and_shape(tmp_path, queued):
    """CACE-Net's contrast starts at an eighth of the epochs: epoch 0 is one phase, the others are another; the last batch is smaller."""
    trainer("cace_net", tmp_path).run()
    assert len(queued) == 3  # both phases of the whole batch; the smaller one of the first phase occurs once, while warming up


def test_a_training_stopped_and_resumed_ends_with_the_same_weights(tmp_path, queued):
    """In the second epoch, between two looks at the device."""
    expected = trainer("cmpae", tmp_path / "whole").run()
    stopped, step, count = trainer("cmpae", tmp_path / "stopped"), loop.Trainer._step, 0

    def stop(*arguments):
        nonlocal count
        step(stopped, *arguments)
        count += 1
        stopped.checkpoints.stopping = count == 5

    stopped._step = stop  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        stopped.run()
    assert_same(expected, trainer("cmpae", tmp_path / "stopped", seed=7).run(), atol=0, rtol=0)


def test_a_checkpoint_of_a_cpu_is_resumed_on_a_gpu(tmp_path, monkeypatch, queued):
    """Its optimizer was neither fused nor capturable."""
    expected = trainer("han", tmp_path / "whole").run()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "runs_ahead", lambda device: False)
        stopped = trainer("han", tmp_path / "stopped")
        stopped.checkpoints.stopping = True
        with pytest.raises(SystemExit):
            stopped.run()
    resumed = trainer("han", tmp_path / "stopped", seed=7)
    assert_same(expected, resumed.run(), atol=1e-6, rtol=1e-6)
    assert all(group["fused"] and group["capturable"] for group in resumed.optimizer.param_groups)


def spoil(monkeypatch, batches: set[int], value: float) -> None:
    """Set one number of the audio in some batches of the training, counted from 0."""
    made, count = SplitData.batches, 0

    def spoiled(self, chunks, dtype):
        nonlocal count
        for found, targets in made(self, chunks, dtype):
            if count in batches:
                found.audio = found.audio.clone()
                found.audio[0, 0, 0] = value
            count += 1
            yield found, targets

    monkeypatch.setattr(SplitData, "batches", spoiled)


@pytest.mark.parametrize("name", ["han", "coleaf"])
@pytest.mark.fault(31)
def test_a_step_that_is_not_finite_changes_no_weight_and_is_counted_and_named(name, tmp_path, monkeypatch, queued):
    spoil(monkeypatch, {7}, torch.nan)
    state = trainer(name, tmp_path).run()
    assert state.skipped == 1
    assert one_says(state.faults, "epoch 2", "loss", "4 (clip")
    assert state.best_weights is not None
    assert all(torch.isfinite(weight).all() for weight in state.best_weights.values())
    assert all(value == value for record in state.history for value in record.values())


@pytest.mark.fault(31)
def test_nonfinite_patience_ends_a_queued_training_with_the_clips_of_its_last_such_step(tmp_path, monkeypatch, queued):
    spoil(monkeypatch, {3, 4, 5, 7}, torch.nan)
    with pytest.raises(PipelineError, match=r"loss .* 4 steps.*epoch 2, terms: .*total nan.*: clip\d+, clip\d+, clip\d+, clip\d+$"):
        trainer("han", tmp_path).run()


def test_an_infinite_gradient_leaves_the_weights_as_they_are(tmp_path, monkeypatch, queued):
    """The loss is finite, so only the gradient shows it."""
    whole, step, before = trainer("han", tmp_path), loop.Trainer._step, []

    def spoiled(rows, *arguments):
        weight = next(whole.method.parameters())
        before.append(weight.detach().clone())
        handle = weight.register_hook(lambda gradient: gradient.clone().fill_(torch.inf)) if len(before) == 5 else None
        step(whole, rows, *arguments)
        if handle is not None:
            handle.remove()

    whole._step = spoiled  # type: ignore[method-assign]
    state = whole.run()
    assert state.skipped == 1
    assert one_says(state.faults, "epoch 1", "gradient")
    assert torch.equal(before[4], before[5])
    assert not torch.equal(before[5], before[6])


@pytest.mark.fault(28)
def test_where_nothing_can_be_captured_one_line_says_so_and_the_weights_are_the_same(tmp_path, monkeypatch, queued, capsys):
    expected = trainer("han", tmp_path / "captured").run()

    def refuse(self, work):
        raise RuntimeError("CUDA error: operation not supported\nmore")

    monkeypatch.setattr(capture.Graphs, "capture", refuse)
    assert_same(expected, trainer("han", tmp_path / "refused").run(), atol=0, rtol=0)
    assert one_says(capsys.readouterr().out.splitlines(), "run, seed 3", "without CUDA graphs", "operation not supported")


def test_batches_take_over_that_no_clip_has_padding():
    batch, _ = random_batch(CLIPS)
    assert not batch[:3].full
    batch.full = True
    assert batch[torch.tensor([0, 2])].full
    assert set(batch.tensors()) == {"visual", "audio", "mask", "others.motion"}
