"""Parsing runs: a motion stream reaches the method, and a killed run does not train its first network twice."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore, shard_name, write_documents
from pipeline.methods import METHODS
from pipeline.training import loop
from pipeline.training.evaluate import evaluate_run
from pipeline.training.run import RunInputs
from pipeline.training.settings import Run, TrainSettings
from pipeline.training.train import train_run
from tests.wording import says

CLASSES, T = ["Speech", "Dog", "Car"], 4
SPLITS = ["train"] * 10 + ["val"] * 4 + ["test"] * 4
SHAPES = {"visual": (2, 5), "audio": (6,), "motion": (3,)}
EVERY_STEP, SELDOM = (TrainSettings(device="cpu", checkpoint_seconds=seconds) for seconds in (0, 1e6))
STEPS = 3 * 3  # of each network: epochs x batches


@pytest.fixture
def inputs(tmp_path):
    directory = tmp_path / "features"
    directory.mkdir()
    generator = np.random.default_rng(0)
    for stream, shape in SHAPES.items():
        np.save(directory / shard_name(stream, 0), generator.normal(size=(len(SPLITS), T, *shape)).astype(np.float32))
    facts = {"shard": 0, "status": "ok", "valid": [True] * T, "visual_valid": [True] * T, "audio_valid": [True] * T}
    keys = {f"{stream}_key": "" for stream in SHAPES}
    records = [{"clip": f"clip{n}", "offset": n, **facts, **keys} for n in range(len(SPLITS))]
    spec = {"segments": T, "segment_seconds": 1.0, "dtype": "float32", "shapes": {name: list(shape) for name, shape in SHAPES.items()}}
    write_documents(directory, records, spec)
    labels = [[CLASSES[n % 3]] for n in range(len(SPLITS))]
    events = [
        [] if split == "train" else [{"modality": "audio", "label": label, "onset": 0.0, "offset": 2.0}]
        for split, (label,) in zip(SPLITS, labels, strict=True)
    ]
    index = pd.DataFrame({"row": range(len(SPLITS)), "clip": [f"clip{n}" for n in range(len(SPLITS))], "split": SPLITS})
    index["events"], index["labels"] = events, labels
    return run("jomold", FeatureStore(directory), index)


def run(method, store, index, epochs=3):
    small, recipe = {"width": 8, "feedforward": 8}, {"learning_rate": 0.01, "batch_size": 4, "epochs": epochs}
    settings = {"feedforward": 8, "anchor_settings": small} if method == "coleaf" else small
    if method == "dhhn":
        settings = {**small, "refine": True, "refiner": {**small, "recipe": recipe}}
    settings = {**settings, "recipe": recipe}
    return RunInputs("run", Run(task="avvp", method=method, features="published", seeds=[3]), settings, store, index, CLASSES)


def train(inputs, directory, settings=EVERY_STEP):
    directory.mkdir(exist_ok=True)
    train_run(inputs, settings, directory, directory.parent / "live")
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_a_damaged_first_network_is_trained_again_with_a_sentence(inputs, tmp_path, monkeypatch, capsys):
    expected = train(inputs, tmp_path / "whole", SELDOM)
    step, done = loop.Trainer._step, []

    def counted(trainer, *arguments):
        if len(done) == STEPS + 2:
            raise KeyboardInterrupt
        done.append(trainer.name)
        step(trainer, *arguments)

    monkeypatch.setattr(loop.Trainer, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "killed")
    first = tmp_path / "killed" / "seed-3.first"
    content = bytearray(first.read_bytes())
    content[-5] ^= 4
    first.write_bytes(content)
    (tmp_path / "killed" / "seed-3.first-checkpoint").unlink()
    monkeypatch.setattr(loop.Trainer, "_step", step)
    assert train(inputs, tmp_path / "killed", SELDOM) == expected
    assert says(capsys.readouterr().err, f"{first} is damaged", "seed 3", "again")


SHORT = 2 * 3  # steps of each network: epochs x batches


# Kills in the first network, between the two, and in the second; CMPAE, with JoMoLD as first network, within an epoch, because it counts
# batches; MA, because it keeps a state for every clip; DHHN, because of its running means; CoLeaF around CMPAE, with three steps a batch.
@pytest.mark.parametrize(
    ("method", "kills"),
    [
        ("jomold", (2, SHORT, SHORT + 4)),
        ("cmpae", (SHORT + 4,)),
        ("ma", (SHORT + 4,)),
        ("dhhn", (SHORT + 4,)),
        ("coleaf", (SHORT + 4,)),
    ],
)
def test_a_run_killed_anywhere_and_resumed_gives_the_same_bytes(inputs, tmp_path, monkeypatch, method, kills):
    inputs = run(method, inputs.store, inputs.index, epochs=2)
    expected = train(inputs, tmp_path / "whole", SELDOM)
    assert list(expected) == ["curves.csv", "seed-3.json", "seed-3.safetensors"]
    step = loop.Trainer._step
    for after in kills:
        done, batches, killed = [], [], tmp_path / f"killed-after-{after}"

        def counted(trainer, rows, batch, targets, progress, after=after, done=done, batches=batches):
            if len(done) == after and not (tmp_path / "resuming").exists():
                raise KeyboardInterrupt
            done.append(trainer.name)
            batches.append(progress.batch)
            step(trainer, rows, batch, targets, progress)

        monkeypatch.setattr(loop.Trainer, "_step", counted)
        with pytest.raises(KeyboardInterrupt):
            train(inputs, killed)
        (tmp_path / "resuming").touch()
        assert train(inputs, killed, SELDOM) == expected, after
        assert done == ["run, seed 3, first network"] * SHORT + ["run, seed 3"] * SHORT, after  # none twice
        assert batches == [0, 1, 2] * 4, after
        (tmp_path / "resuming").unlink()


def test_ratios_are_stored_with_the_weights_and_every_stream_matters(inputs, tmp_path):
    train(inputs, tmp_path / "models", SELDOM)
    weights = load_file(tmp_path / "models" / "seed-3.safetensors")
    assert 0 < weights["noise_visual"].max() <= 1
    (tmp_path / "results").mkdir()
    evaluate_run(inputs, tmp_path / "models", EVERY_STEP, tmp_path / "results")
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["parameters"] == sum(value.numel() for name, value in weights.items() if not name.startswith("noise"))
    assert metrics["seeds"]["test"]["3"]["segment/Vo"] is not None
    data = inputs.split("test")
    ((batch, _),) = data.batches([torch.tensor([2, 0])], torch.float64)
    assert set(batch.others) == {"motion"}
    expected = inputs.store.read("motion", [data.clips[2], data.clips[0]])
    np.testing.assert_array_equal(batch.others["motion"].numpy(), expected)
    assert batch.others["motion"].dtype == torch.float64


def test_removed_labels_are_stored_by_annotation_row_and_the_last_epoch_is_kept(inputs, tmp_path):
    inputs = run("ma", inputs.store, inputs.index.iloc[::-1])
    data = inputs.training_split()
    assert data.targets.rows.tolist() == data.rows == list(range(9, -1, -1))
    train(inputs, tmp_path / "models", SELDOM)
    removed = load_file(tmp_path / "models" / "seed-3.safetensors")["removed_visual"]
    labels = torch.zeros(10, len(CLASSES), dtype=torch.bool)
    labels[data.targets.rows] = data.targets.labels[:, : len(CLASSES)] > 0.5
    assert removed.shape == labels.shape
    assert not (removed & ~labels).any()
    assert json.loads((tmp_path / "models" / "seed-3.json").read_text(encoding="utf-8"))["best_epoch"] == 2


def test_an_unknown_selection_metric_is_refused(inputs, tmp_path):
    inputs.settings["recipe"]["selection"] = "event/B"
    with pytest.raises(PipelineError, match=r"recipe\.selection: .*'event/B'.*segment/A, "):
        train(inputs, tmp_path / "models", SELDOM)


def test_selection_by_a_baseline_score_is_refused(inputs, tmp_path):
    inputs.settings["recipe"]["selection"] = "baseline_nothing"
    with pytest.raises(PipelineError, match=r"recipe\.selection: .*baseline_nothing"):
        train(inputs, tmp_path / "models", SELDOM)


def test_the_epoch_is_picked_by_the_metric_of_the_recipe(inputs, tmp_path, monkeypatch):
    scores = iter([1.0, 3.0, 2.0] * 2)
    monkeypatch.setattr(loop, "score_split", lambda *_: {"segment/Type@AV": 0.0, "event/A": next(scores)})
    train(inputs, tmp_path / "models", SELDOM)
    assert json.loads((tmp_path / "models" / "seed-3.json").read_text(encoding="utf-8"))["best_epoch"] == 1


def test_coleaf_keeps_its_anchor_and_records_all_its_steps(inputs, tmp_path):
    inputs = run("coleaf", inputs.store, inputs.index)
    train(inputs, tmp_path / "models", SELDOM)
    weights = load_file(tmp_path / "models" / "seed-3.safetensors")
    anchor = run("cmpae", inputs.store, inputs.index).build()
    assert set(weights) == {f"anchor.{name}" for name in anchor.state_dict()}
    assert weights["anchor.noise_visual"].max() > 0  # of the first network
    (tmp_path / "results").mkdir()
    evaluate_run(inputs, tmp_path / "models", EVERY_STEP, tmp_path / "results")
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["parameters"] == sum(weight.numel() for weight in anchor.parameters())
    last = json.loads((tmp_path / "models" / "seed-3.json").read_text(encoding="utf-8"))["history"][-1]
    weighted = {
        "reference_audio": 1, "reference_visual": 1, "tokens_audio": 1.2, "tokens_visual": 1, "audio": 2, "visual": 1, "clip": 2,
        "contrast": 1, "mutual": 1, "event_audio": 0.009, "event_visual": 1, "co_occurrence_audio": 1e-4, "co_occurrence_visual": 1e-4,
    }  # fmt: skip
    total = sum(weight * last[f"train/{name}"] for name, weight in weighted.items())
    assert last["train/total"] == pytest.approx(total, rel=1e-5)


def test_a_step_without_a_finite_loss_ends_its_batch(inputs, tmp_path, monkeypatch):
    """The step before it is kept, no step follows, and the batch is not recorded: means are over the other batches' clips."""
    taken, totals = [], []

    def steps(method, batch, targets, progress):
        for number in range(3):
            taken.append((progress.epoch, progress.batch, number))
            poison = float("nan") if taken[-1] == (1, 1, 1) else 0.0
            terms = method.losses(batch, targets, progress)
            yield {**terms, "total": terms["total"] + poison}
            if progress.epoch == 1 and progress.batch != 1:
                totals.append(float(terms["total"].detach()) * len(batch.mask))

    monkeypatch.setattr(METHODS.get("jomold"), "steps", steps)
    inputs.settings["denoise"] = False
    train(inputs, tmp_path / "models", SELDOM)
    facts = json.loads((tmp_path / "models" / "seed-3.json").read_text(encoding="utf-8"))
    assert facts["skipped_steps"] == 1
    expected = {(epoch, batch, number) for epoch in range(3) for batch in range(3) for number in range(3)} - {(1, 1, 2)}
    assert set(taken) == expected
    assert len(taken) == len(expected)
    assert facts["history"][1]["train/total"] == pytest.approx(sum(totals) / (4 + 2))
