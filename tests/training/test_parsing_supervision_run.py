"""Parsing runs with guessed segment labels and with selected thresholds, from the feature store to the stored weights."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_first_network import CLASSES, EVERY_STEP, SELDOM, SPLITS, T, inputs, train  # noqa: F401 (a fixture)

from pipeline.errors import InputProblems, PipelineError
from pipeline.features.store import FeatureStore, shard_name
from pipeline.sealed import read_sealed, write_sealed
from pipeline.training import loop
from pipeline.training.evaluate import evaluate_run
from pipeline.training.predictions import predictions
from pipeline.training.run import RunInputs
from pipeline.training.trained import load_seed


@pytest.fixture
def run(inputs):  # noqa: F811
    """HAN, with guessed segment labels in two further streams of its store."""
    directory = inputs.store.directory
    generator = np.random.default_rng(4)
    spec = read_sealed(directory / "spec.json")
    for stream in ("audio_labels", "visual_labels"):
        write_labels(directory, stream, (generator.random((len(SPLITS), T, len(CLASSES))) < 0.4).astype(np.float32))
        spec["shapes"][stream] = [len(CLASSES)]
    write_sealed(directory / "spec.json", spec)
    return replace(inputs, run=inputs.run.model_copy(update={"method": "han"}), store=FeatureStore(directory))


def write_labels(directory, stream, values):
    np.save(directory / shard_name(stream, 0), values)


GUESSED = {"audio": "audio_labels", "visual": "visual_labels"}


def again(run: RunInputs, **settings) -> RunInputs:
    return replace(run, settings={**run.settings, **settings}, store=FeatureStore(run.store.directory))


def scored(run, models, directory):
    directory.mkdir()
    evaluate_run(run, models, EVERY_STEP, directory)
    return (directory / "metrics.json").read_bytes(), (directory / "predictions.parquet").read_bytes()


def test_guessed_labels_affect_training_but_not_prediction(run, tmp_path):
    plain = train(run, tmp_path / "plain", SELDOM)
    guessed = again(run, pseudo_labels=GUESSED)
    assert set(guessed.training_split().stored.streams) == {"visual", "audio", "motion", *GUESSED.values()}
    assert set(guessed.split("val").stored.streams) == {"visual", "audio", "motion"}
    assert train(guessed, tmp_path / "guessed", SELDOM)["seed-3.safetensors"] != plain["seed-3.safetensors"]
    history = json.loads((tmp_path / "guessed" / "seed-3.json").read_text(encoding="utf-8"))["history"]
    assert all(epoch["train/visual_segments"] > 0 for epoch in history)
    before = scored(guessed, tmp_path / "guessed", tmp_path / "first")
    for stream in GUESSED.values():  # as if the clips to be scored had no labels
        write_labels(run.store.directory, stream, np.full((len(SPLITS), T, len(CLASSES)), np.nan, np.float32))
    assert scored(again(run, pseudo_labels=GUESSED), tmp_path / "guessed", tmp_path / "second") == before


@pytest.mark.parametrize("wrong", [np.nan, -1.0, 2.0])
def test_a_training_clip_without_a_label_is_named(run, tmp_path, wrong):
    labels = np.zeros((len(SPLITS), T, len(CLASSES)), np.float32)
    labels[[2, 7, 12], 1, 0] = wrong  # clip12 is validation's
    write_labels(run.store.directory, "visual_labels", labels)
    with pytest.raises(InputProblems, match=r"visual_labels.*0\.\.1.* 2 \(clip2, clip7\)"):
        train(again(run, pseudo_labels=GUESSED), tmp_path / "models", SELDOM)


def test_missing_streams_and_streams_without_labels_are_named(run, tmp_path):
    with pytest.raises(PipelineError, match=r"clip_labels.*visual, audio, "):
        train(again(run, pseudo_labels={**GUESSED, "visual": "clip_labels"}), tmp_path / "models")
    motion = torch.rand(len(SPLITS), T, 5).numpy()
    write_labels(run.store.directory, "visual_labels", motion)
    spec = read_sealed(run.store.directory / "spec.json")
    spec["shapes"]["visual_labels"] = [5]
    write_sealed(run.store.directory / "spec.json", spec)
    with pytest.raises(InputProblems, match=r"visual_labels.*\(5,\).*3 classes"):
        train(again(run, pseudo_labels=GUESSED), tmp_path / "models")


def test_a_text_table_of_another_class_order_is_refused_before_training(run, tmp_path):
    path = tmp_path / "texts.npz"
    np.savez(path, names=np.array([CLASSES[1], CLASSES[0], CLASSES[2]]), vectors=np.zeros((3, 4), np.float32))
    leap = replace(run, run=run.run.model_copy(update={"method": "leap"}), settings={"texts": str(path), "text_width": 4})
    anchored = replace(
        run, run=run.run.model_copy(update={"method": "coleaf"}), settings={"anchor": "leap", "anchor_settings": leap.settings}
    )
    for refused, place in ((leap, "texts"), (anchored, "anchor_settings.texts")):
        with pytest.raises(InputProblems, match=f"(?s)runs.run.*{place}.*another order.*'{CLASSES[1]}'"):
            train(refused, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_the_classes_on_in_a_training_segment_are_counted_before_training_and_stored(run, tmp_path):
    """UWAV's weights rest on them: on from 1/2, over the valid segments of the training clips."""
    small = {"width": 8, "heads": 2, "layers": 1, "feedforward": 8, "audio_hidden": 8, "recipe": run.settings["recipe"]}
    uwav = replace(run, run=run.run.model_copy(update={"method": "uwav"}), settings=small)
    assert uwav.config.pseudo_labels.model_dump() == GUESSED
    train(uwav, tmp_path / "models", SELDOM)
    data = uwav.training_split()
    expected = [(data.stored.read(name)[data.mask] > 0.5).sum().item() / data.mask.sum().item() for name in GUESSED.values()]
    assert load_file(tmp_path / "models" / "seed-3.safetensors")["classes_on"].tolist() == pytest.approx(expected)
    history = json.loads((tmp_path / "models" / "seed-3.json").read_text(encoding="utf-8"))["history"]
    assert all(record[f"train/{part}_mixed"] > 0 for record in history for part in GUESSED)


def test_selected_thresholds_are_stored_and_nothing_else_changes(run, tmp_path):
    train(run, tmp_path / "fixed", SELDOM)
    train(again(run, thresholds="selected"), tmp_path / "selected", SELDOM)
    fixed, selected = (load_file(tmp_path / name / "seed-3.safetensors") for name in ("fixed", "selected"))
    thresholds = selected.pop("selected_thresholds")
    assert fixed.keys() == selected.keys()
    assert all(torch.equal(fixed[name], selected[name]) for name in fixed)
    assert thresholds[0].isnan().all()
    assert ((thresholds[1] >= 0.25) & (thresholds[1] <= 0.7)).all()
    method, _ = load_seed(tmp_path / "selected", 3)
    ((batch, _),) = run.split("test").batches([torch.arange(2)], torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(method.predict(batch).thresholds[:, 1, 1], thresholds[1].expand(2, -1))


@pytest.mark.parametrize("epoch", [None, 1])
def test_coleaf_keeps_its_anchor_and_the_thresholds_selected_for_it(run, tmp_path, epoch):
    """Guessed segment labels reach the anchor; thresholds follow from the scores at the configured epoch."""
    small = {"feedforward": 8, "anchor": "han", "anchor_settings": {"width": 8, "feedforward": 8}}
    settings = {**small, "recipe": run.settings["recipe"]}
    plain = replace(run, run=run.run.model_copy(update={"method": "coleaf"}), settings=settings)
    train(plain, tmp_path / "fixed", SELDOM)
    selected = again(plain, thresholds="selected", threshold_epoch=epoch)
    train(selected, tmp_path / "selected", SELDOM)
    weights, own = (load_file(tmp_path / name / "seed-3.safetensors") for name in ("selected", "fixed"))
    thresholds = weights.pop("selected_thresholds")
    assert own.keys() == weights.keys() == {name for name in own if name.startswith("anchor.")}
    assert all(torch.equal(own[name], weights[name]) for name in own)
    method, _ = load_seed(tmp_path / "selected", 3)
    assert method.references is None
    if epoch is None:
        fixed, _ = load_seed(tmp_path / "fixed", 3)
        scores, _ = predictions(fixed, plain.task, plain.split("val"), torch.float32, 4)
        data = plain.split("val")
        expected = fixed.calibrated(scores, data.targets, data.mask)["selected_thresholds"]
        torch.testing.assert_close(thresholds, expected, equal_nan=True)
    ((batch, _),) = plain.split("test").batches([torch.arange(2)], torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(method.predict(batch).thresholds[:, 1, 1], thresholds[1].expand(2, -1))
    train(again(selected, pseudo_labels=GUESSED), tmp_path / "guessed", SELDOM)
    history = json.loads((tmp_path / "guessed" / "seed-3.json").read_text(encoding="utf-8"))["history"]
    assert all(record["train/visual_segments"] > 0 and record["train/audio_segments"] > 0 for record in history)


def test_thresholds_are_selected_at_the_configured_epoch_also_after_a_kill(run, tmp_path, monkeypatch):
    """Thresholds come from the weights after epoch 1 of 3, not from the kept ones; a kill after it changes no byte."""
    early, epochs = again(run, thresholds="selected", threshold_epoch=1, selected_for=["audio", "visual"]), []
    calibrated = loop.Trainer._calibrated
    monkeypatch.setattr(loop.Trainer, "_calibrated", lambda trainer: epochs.append(trainer.state.epoch) or calibrated(trainer))
    whole = train(early, tmp_path / "whole", SELDOM)
    assert epochs == [0]
    step, done = loop.Trainer._step, []

    def counted(trainer, rows, batch, targets, progress):
        if len(done) == 5 and not (tmp_path / "resuming").exists():  # in the second epoch
            raise KeyboardInterrupt
        done.append(rows)
        step(trainer, rows, batch, targets, progress)

    monkeypatch.setattr(loop.Trainer, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        train(early, tmp_path / "killed")
    (tmp_path / "resuming").touch()
    assert train(early, tmp_path / "killed", SELDOM) == whole
    assert epochs == [0, 0]
    assert not load_file(tmp_path / "whole" / "seed-3.safetensors")["selected_thresholds"].isnan().any()


def test_thresholds_without_validation_are_refused(run, tmp_path):
    run = replace(run, index=run.index[run.index["split"] != "val"])
    with pytest.raises(PipelineError, match=r"thresholds.*validation"):
        train(again(run, thresholds="selected"), tmp_path / "models")
