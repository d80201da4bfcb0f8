import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from contract import SMALL
from kills import kill_at
from safetensors.torch import load_file, save_file

from pipeline.cache import file_sha256
from pipeline.errors import PipelineError
from pipeline.features.store import Entry, FeatureStore, write_store
from pipeline.methods import METHODS
from pipeline.methods.shared.localization import LocalizationMethod
from pipeline.sealed import unsealed
from pipeline.tasks.avel import AvelTargets
from pipeline.training import loop
from pipeline.training.evaluate import evaluate_run
from pipeline.training.predictions import predictions, score_split
from pipeline.training.run import RunInputs
from pipeline.training.settings import Run, TrainSettings
from pipeline.training.streams import Resident
from pipeline.training.train import train_run
from pipeline.training.trained import load_seed
from tests.wording import says

CLASSES = ["Dog", "Cat", "Bell"]
T = 4
EVERY_STEP = TrainSettings(device="cpu", checkpoint_seconds=0)
SELDOM = TrainSettings(device="cpu", checkpoint_seconds=1e6)
SPLITS = ["train"] * 10 + ["val"] * 5 + ["test"] * 6


def write_features(directory, poisoned=(), pooled=False):
    """Clips with the class written plainly into both features, so any method that learns at all learns them."""
    directory.mkdir(parents=True)
    entries = []
    for number in range(len(SPLITS) - 1):  # the last clip of test has no features
        rng = np.random.default_rng(number)
        visual, audio = rng.normal(0, 0.3, (T, 2, 2, 5)), rng.normal(0, 0.3, (T, 6))
        visual[: 1 + number % T, ..., number % 3] += 2
        audio[: 1 + number % T, number % 3] += 2
        visual = visual.mean(axis=(1, 2)) if pooled else visual
        if number in poisoned:
            audio[0, 0] = np.nan
        facts = {"clip": f"clip{number}", "status": "ok", "valid": [True] * T, "visual_valid": [True] * T, "audio_valid": [True] * T}
        facts |= {"visual_key": f"v{number}", "audio_key": f"a{number}"}
        entries.append(Entry(facts, {"visual": visual.astype(np.float32), "audio": audio.astype(np.float32)}))
    spec = {"segments": T, "segment_seconds": 1.0, "dtype": "float32", "shapes": {"visual": [5] if pooled else [2, 2, 5], "audio": [6]}}
    write_store(directory, entries, len(entries), spec)
    return FeatureStore(directory)


@pytest.fixture(scope="module")
def plain_store(tmp_path_factory):
    """Features that no test changes."""
    return write_features(tmp_path_factory.mktemp("plain") / "features")


@pytest.fixture
def inputs(tmp_path):
    return make_inputs(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of the run of ``inputs``, trained without interruption."""
    root = tmp_path_factory.mktemp("trained")
    train(make_inputs(root), root / "run", SELDOM)
    return root / "run"


@pytest.fixture(scope="module")
def expected(trained):
    """Its files."""
    return files_of(trained)


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of it, to change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def make_inputs(root, poisoned=(), epochs=4, seeds=(3, 4), pooled=False, store=None):
    events = [[{"modality": "av", "label": CLASSES[number % 3], "onset": 0.0, "offset": 1.0 + number % T}] for number in range(len(SPLITS))]
    index = pd.DataFrame({"row": range(len(SPLITS)), "clip": [f"clip{n}" for n in range(len(SPLITS))], "split": SPLITS, "events": events})
    index["labels"] = [[event["label"] for event in of_row] for of_row in events]
    settings = {"attention_width": 8, "recurrent_width": 6, "classifier_width": 8}
    settings["recipe"] = {"learning_rate": 0.02, "batch_size": 4, "epochs": epochs, "milestones": [2], "clip_norm": 1.0}
    run = Run(task="avel", method="avel", features="plain", seeds=list(seeds))
    return RunInputs("run", run, settings, store or write_features(root / "features", poisoned, pooled), index, CLASSES)


def train(inputs, directory, settings=EVERY_STEP):
    directory.mkdir(exist_ok=True)
    train_run(inputs, settings, directory, directory.parent / "live")
    return files_of(directory)


def files_of(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def scored(method, inputs, split):
    data = inputs.split(split)
    return score_split(inputs.task, data, predictions(method, inputs.task, data, torch.float32, 64)[1])["accuracy"]


@pytest.mark.fault(34)
def test_a_run_is_reproducible_with_and_without_checkpoints(inputs, tmp_path, expected):
    first = train(inputs, tmp_path / "a")
    assert first == expected
    assert list(first) == ["curves.csv", "seed-3.json", "seed-3.safetensors", "seed-4.json", "seed-4.safetensors"]
    assert first == train(inputs, tmp_path / "b", SELDOM)
    assert first["seed-3.safetensors"] != first["seed-4.safetensors"]


def test_a_method_that_loses_its_spatial_attention_is_named_once(tmp_path, capsys):
    pooled = make_inputs(tmp_path, epochs=1, pooled=True)
    train(pooled, tmp_path / "run", SELDOM)
    assert capsys.readouterr().out.count("plain has one position per segment, so avel trains without its spatial attention") == 1
    train(pooled, tmp_path / "run")  # nothing is left to train
    assert "attention" not in capsys.readouterr().out
    assert make_inputs(tmp_path / "map").remark() is None
    without = [("avel", {"modality": "visual"}), ("cace_net", {"guidance": "none"}), ("han", {})]
    losing = [("cace_net", {}), ("cmran", {}), ("cmbs", {}), ("psp", {}), ("ccln", {})]
    for name, settings in (*without, *losing):
        inputs = replace(pooled, run=pooled.run.model_copy(update={"method": name}), settings=settings)
        assert (inputs.remark() is not None) == ((name, settings) in losing), name


@pytest.mark.parametrize("after", [1, 3, 5, 14, 23])  # in the first epoch, at its end, later, in the second seed
@pytest.mark.fault(20)
def test_a_run_killed_at_any_step_and_resumed_gives_the_same_bytes(inputs, tmp_path, monkeypatch, after, expected):
    step = loop.Trainer._step
    kill_at(monkeypatch, after + 1)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "killed")
    monkeypatch.setattr(loop.Trainer, "_step", step)
    resumed = 0

    def counted(self, *arguments):
        nonlocal resumed
        resumed += 1
        step(self, *arguments)

    monkeypatch.setattr(loop.Trainer, "_step", counted)
    assert train(inputs, tmp_path / "killed", SELDOM) == expected
    assert resumed == 2 * 4 * 3 - after  # seeds x epochs x steps, none done twice


def flip(path):
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_checkpoint_is_discarded_with_a_sentence_and_the_seed_starts_again(
    inputs, tmp_path, monkeypatch, capsys, damage, expected
):
    step, count = loop.Trainer._step, 0

    def counted(self, *arguments):
        nonlocal count
        count += 1
        if count == 17:  # in the second seed
            raise KeyboardInterrupt
        step(self, *arguments)

    monkeypatch.setattr(loop.Trainer, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "killed")
    checkpoint = tmp_path / "killed" / "seed-4.checkpoint"
    damage(checkpoint)
    capsys.readouterr()
    assert train(inputs, tmp_path / "killed", SELDOM) == expected
    assert count == 17 + 12  # the finished seed is not trained again
    assert says(capsys.readouterr().err, f"{checkpoint} is damaged", "removed", "again")


@pytest.mark.parametrize("name", ["seed-3.safetensors", "seed-3.json"])
def test_a_damaged_finished_seed_is_trained_again_and_never_read(inputs, copied, expected, capsys, name):
    """An unfinished run trains it again; a published run refuses it."""
    cut(copied / name)
    with pytest.raises(PipelineError, match=rf"{copied}/{name} is damaged"):
        load_seed(copied, 3)
    capsys.readouterr()
    assert train(inputs, copied, SELDOM) == expected
    assert says(capsys.readouterr().err, f"{name} is damaged", "seed 3", "again")
    flip(copied / "seed-4.safetensors")
    with pytest.raises(PipelineError, match=r"seed-4\.safetensors is damaged"):
        load_seed(copied, 4)


def test_training_times_are_stored_per_weights_and_survive_an_interruption(inputs, tmp_path, monkeypatch):
    """The clock moves on by a second whenever it is read, and by an hour between a kill and the resumption."""
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))
    train(inputs, tmp_path / "whole")
    times = {seed: json.loads((tmp_path / "live" / f"seed-{seed}" / "time.json").read_text(encoding="utf-8")) for seed in inputs.run.seeds}
    for seed, facts in times.items():
        assert facts["weights"] == file_sha256(tmp_path / "whole" / f"seed-{seed}.safetensors")
        assert facts["device"] == "cpu"
        assert facts["seconds"] > 0
    kill_at(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "killed")
    for _ in range(3600):
        next(clock)
    train(inputs, tmp_path / "killed")
    again = json.loads((tmp_path / "live" / "seed-3" / "time.json").read_text(encoding="utf-8"))
    assert again["weights"] == times[3]["weights"]
    assert times[3]["seconds"] / 2 < again["seconds"] < times[3]["seconds"] + 60  # neither from zero nor with the hour


@pytest.mark.fault(21)
def test_sigterm_lets_the_step_finish_writes_a_checkpoint_and_exits_143(inputs, tmp_path, monkeypatch, expected):
    step, count = loop.Trainer._step, 0

    def terminated(self, *arguments):
        nonlocal count
        count += 1
        if count == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, *arguments)

    monkeypatch.setattr(loop.Trainer, "_step", terminated)
    with pytest.raises(SystemExit) as stop:
        train(inputs, tmp_path / "stopped", SELDOM)
    assert stop.value.code == 143
    assert (tmp_path / "stopped" / "seed-3.checkpoint").is_file()
    assert count == 5
    assert train(inputs, tmp_path / "stopped", SELDOM) == expected
    assert count == 2 * 4 * 3


def test_the_best_validation_epoch_is_kept(inputs, copied):
    for seed in inputs.run.seeds:
        facts = json.loads((copied / f"seed-{seed}.json").read_text(encoding="utf-8"))
        scores = [record["val/accuracy"] for record in facts["history"]]
        assert facts["best_epoch"] == int(np.argmax(scores))  # the first of equals
        method, _ = load_seed(copied, seed)
        score = scored(method, inputs, "val")
        assert score == pytest.approx(max(scores))
        assert [record["learning_rate"] for record in facts["history"]] == pytest.approx([0.02, 0.02, 0.01, 0.01])


def test_the_last_smaller_batch_counts_by_its_rows(inputs, tmp_path, monkeypatch):
    """10 rows in batches of 4, 4, 2: the epoch's mean loss is the mean over rows, checked with a known loss."""
    seen = []

    def losses(self, batch, targets, progress):
        seen.append(len(batch.visual))
        return {"total": self.classifier[0].weight.sum() * 0 + float(len(seen))}

    monkeypatch.setattr(type(inputs.build()), "losses", losses)
    train(inputs, tmp_path / "run", SELDOM)
    assert seen[:3] == [4, 4, 2]
    record = json.loads((tmp_path / "run" / "seed-3.json").read_text(encoding="utf-8"))["history"][0]
    assert record["train/total"] == pytest.approx((1 * 4 + 2 * 4 + 3 * 2) / 10)


@pytest.mark.fault(31)
def test_a_non_finite_loss_stops_with_the_clips_named_and_leaves_no_weights(tmp_path):
    inputs = make_inputs(tmp_path, poisoned=(2,))
    with pytest.raises(PipelineError, match=r"not finite.* 4 .*: .*clip2\b"):
        train(inputs, tmp_path / "run", SELDOM)
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_evaluation_agrees_with_a_count_by_hand(tmp_path):
    inputs = make_inputs(tmp_path, epochs=12)
    train(inputs, tmp_path / "run", SELDOM)
    (tmp_path / "out").mkdir()
    evaluate_run(inputs, tmp_path / "run", EVERY_STEP, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert document["clips"]["test"] == {"evaluated": 5, "without features": ["clip20"]}
    assert document["parameters"] == sum(weight.numel() for weight in inputs.build().parameters())
    for seed in (3, 4):
        part = table[(table["seed"] == seed) & (table["split"] == "test")]
        assert len(part) == 5 * T
        for line in part.itertuples():
            number = int(line.clip.removeprefix("clip"))
            assert line.true == (number % 3 if line.segment < 1 + number % T else 3)
            assert line.row == number
        right = sum(line.true == line.predicted for line in part.itertuples())
        assert document["seeds"]["test"][str(seed)]["accuracy"] == pytest.approx(100 * right / (5 * T))
        assert document["seeds"]["test"][str(seed)]["accuracy"] > 60  # it did learn: always background gets 40


def test_prediction_in_batches_of_any_size_is_the_same(inputs):
    torch.manual_seed(0)
    method = inputs.build().eval()
    data = inputs.split("train")
    whole, _ = predictions(method, inputs.task, data, torch.float32, 64)
    parts, _ = predictions(method, inputs.task, data, torch.float32, 3)
    torch.testing.assert_close(whole.segments, parts.segments, rtol=1e-5, atol=1e-6)


@pytest.mark.fault(38, 39)
def test_a_missing_seed_and_weights_that_do_not_fit_are_reported(copied):
    with pytest.raises(PipelineError, match="seed 9"):
        load_seed(copied, 9)
    path = copied / "seed-3.safetensors"
    weights = load_file(path)
    weights["stranger"] = weights.pop(next(iter(weights)))
    save_file(weights, path)
    with pytest.raises(PipelineError, match="stranger"):
        load_seed(copied, 3)


@pytest.mark.fault(38)
def test_evaluating_on_other_classes_is_refused(inputs, copied, tmp_path):
    inputs = replace(inputs, classes=["Cat", "Dog", "Bell"])
    with pytest.raises(PipelineError, match="classes"):
        evaluate_run(inputs, copied, EVERY_STEP, tmp_path)


def test_without_training_clips_nothing_is_trained(inputs, tmp_path):
    inputs.index["split"] = "test"
    with pytest.raises(PipelineError, match="training split"):
        train(inputs, tmp_path / "run", SELDOM)


def test_the_fingerprint_covers_everything_that_determines_the_weights(inputs, tmp_path):
    first = inputs.fingerprint(EVERY_STEP)
    assert first == inputs.fingerprint(EVERY_STEP)
    assert first != inputs.fingerprint(TrainSettings(precision="64-true"))
    assert first != inputs.fingerprint(EVERY_STEP.model_copy(update={"threads": 1}))
    others = [make_inputs(tmp_path / "o1"), make_inputs(tmp_path / "o2", epochs=5), make_inputs(tmp_path / "o3")]
    others[0].index.at[0, "events"] = []
    index = pd.read_parquet(others[2].store.directory / "index.parquet")
    index.loc[0, "visual_key"] = "another"
    index.to_parquet(others[2].store.directory / "index.parquet", index=False)
    assert len({first, *(other.fingerprint(EVERY_STEP) for other in others)}) == 4
    assert make_inputs(tmp_path / "same").fingerprint(EVERY_STEP) == first
    inputs.index["segment_rule"] = "touch"
    assert inputs.fingerprint(EVERY_STEP) != first


def test_the_fingerprint_covers_labels_and_row_numbers(inputs, tmp_path):
    """A clip's label matters under weak supervision, and a row's number, because published removed labels refer to it."""
    relabelled, renumbered, moved = (make_inputs(tmp_path / name) for name in ("labels", "rows", "moved"))
    relabelled.index.at[2, "labels"] = ["Dog"]
    assert list(inputs.index["labels"][2]) == ["Bell"]
    renumbered.index["row"] += 1
    assert len({each.fingerprint(EVERY_STEP) for each in (inputs, relabelled, renumbered)}) == 3
    moved.index["file"] = [f"/elsewhere/{number}.mp4" for number in range(len(SPLITS))]
    assert moved.fingerprint(EVERY_STEP) == inputs.fingerprint(EVERY_STEP)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "pipeline/layers/audio_guided_spatial.py",
            "pipeline/layers/precision.py",
            "pipeline/methods/shared/inputs.py",
            "pipeline/methods/avel.py",
        ),
        *("pipeline/tasks/avel/targets.py", "pipeline/metrics/segments.py", "pipeline/training/loop.py", "pipeline/training/run.py"),
        *("pipeline/datasets/base.py", "pipeline/features/store.py", "pipeline/devices.py", "pipeline/settings.py"),
    ],
)
def test_the_fingerprint_covers_all_code_that_determines_the_weights(inputs, edited, path):
    first = inputs.fingerprint(EVERY_STEP)
    edited(path)
    assert inputs.fingerprint(EVERY_STEP) != first


@pytest.mark.parametrize(
    "path",
    [
        "pipeline/methods/cace_net/spiking.py",
        "pipeline/methods/cace_net/method.py",
        "pipeline/tasks/cml/scores.py",
        "pipeline/report/tables.py",
    ],
)
def test_the_fingerprint_ignores_code_that_the_run_does_not_choose(inputs, edited, path):
    first = inputs.fingerprint(EVERY_STEP)
    edited(path)
    assert inputs.fingerprint(EVERY_STEP) == first


def test_the_fingerprint_covers_files_named_in_settings(inputs, tmp_path):
    path = tmp_path / "ratios.npz"
    settings = {"anchor": "jomold", "anchor_settings": {"noise_ratios": str(path)}}
    inputs = replace(inputs, run=Run(task="avvp", method="coleaf", features="plain"), settings=settings)
    found = set()
    for share in (0.1, 0.2):
        np.savez(path, audio=np.full(3, share), visual=np.full(3, share))
        found.add(inputs.fingerprint(EVERY_STEP))
    assert len(found) == 2


def test_the_features_keep_their_stored_type_until_a_batch_is_made(inputs):
    resident = inputs.split("train").stored.resident()
    half = Resident({stream: values.half() for stream, values in resident.tensors.items()})
    data = inputs.split("train").to(torch.device("cpu"), half)
    ((batch, targets),) = data.batches([torch.tensor([1, 0])], torch.float64)
    assert batch.visual.dtype == torch.float64
    assert half.tensors["visual"].dtype == torch.float16
    assert targets.video.tolist() == [1, 0]


def test_curves_hold_every_epoch_of_every_seed(copied):
    curves = pd.read_csv(copied / "curves.csv")
    assert list(curves["seed"]) == [3] * 4 + [4] * 4
    assert list(curves["epoch"]) == [0, 1, 2, 3] * 2
    assert {"train/total", "val/accuracy", "learning_rate"} <= set(curves.columns)


def weak_inputs(store, method, move=False, epochs=2, **settings):
    """A weakly supervised run; ``move`` changes the place and length, but not the class, of every training event."""
    inputs = make_inputs(None, seeds=(3,), store=store)
    settings = {**SMALL[method].settings, "supervision": "weak", "recipe": {"batch_size": 10, "epochs": epochs}, **settings}
    inputs = replace(inputs, run=inputs.run.model_copy(update={"method": method}), settings=settings)
    for events in inputs.index.loc[inputs.index["split"] == "train", "events"] if move else []:
        length = events[0]["offset"]
        events[0].update(onset=(length + 1) % T, offset=T)
    return inputs


WEAK = sorted(name for name in METHODS.names() if issubclass(METHODS.get(name), LocalizationMethod))


@pytest.mark.parametrize("method", WEAK)
def test_event_times_do_not_reach_weak_training(tmp_path, plain_store, method):
    """Moving the events changes no byte of the weights; under full supervision it does, from the first step on."""
    for supervision, epochs in (("weak", 2), ("full", 1)):
        weights = []
        for move in (False, True):
            inputs = weak_inputs(plain_store, method, move, epochs, supervision=supervision)
            files = train(inputs, tmp_path / f"{supervision}-{move}", SELDOM)
            weights.append(files["seed-3.safetensors"])
        assert (weights[0] == weights[1]) == (supervision == "weak")


def test_durations_reach_weak_training_only_as_named_proportions(plain_store):
    plain, moved = (weak_inputs(plain_store, "psp", move) for move in (False, True))
    assert torch.equal(plain.training_split().targets.labels, moved.training_split().targets.labels)
    first, second = (
        replace(inputs, settings={**inputs.settings, "video_labels": "proportions"}).training_split().targets.labels
        for inputs in (plain, moved)
    )
    assert not torch.equal(first, second)
    assert first[1].tolist() == [0, 0.5, 0, 0.5]  # clip 1: Cat on two of four segments


def test_negative_clips_join_weak_training_alone(plain_store):
    inputs = weak_inputs(plain_store, "avel")
    inputs.index.at[12, "split"], inputs.index.at[12, "events"], inputs.index.at[12, "labels"] = "negative", [], []
    weak = inputs.training_split()
    assert weak.clips == [*(f"clip{number}" for number in range(10)), "clip12"]
    assert weak.targets.labels[10].tolist() == [0, 0, 0, 1]
    assert weak.targets.labels[:10, 3].sum() == 0
    assert isinstance(inputs.split("val").targets, AvelTargets)
    assert "clip12" not in inputs.split("val").clips
    full = replace(inputs, settings={**inputs.settings, "supervision": "full"})
    assert full.training_split().clips == [f"clip{number}" for number in range(10)]


def test_the_rate_falls_at_iterations_and_epochs_also_after_an_interruption(inputs, tmp_path, monkeypatch):
    """10 clips in batches of 4 are 3 steps an epoch: the fourth step is the first of epoch 1."""
    inputs.settings["recipe"] |= {"iteration_milestones": [4, 11], "iteration_decay": 0.1}
    step, rates = loop.Trainer._step, []

    def noted(self, *arguments):
        rates.append(self.optimizer.param_groups[0]["lr"])
        if len(rates) == 6:
            raise KeyboardInterrupt
        step(self, *arguments)

    monkeypatch.setattr(loop.Trainer, "_step", noted)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, tmp_path / "run")
    train(inputs, tmp_path / "run")
    interrupted = rates.pop(5)
    assert interrupted == rates[5]
    assert rates[:12] == pytest.approx([0.02] * 4 + [0.002] * 2 + [0.001] * 5 + [0.0001])


def test_watching_test_changes_no_weight_and_records_its_curve(inputs, tmp_path, expected):
    """The curve of the test headline gives last and best epoch, so no further weights need be kept."""
    watched = train(inputs, tmp_path / "watched", SELDOM.model_copy(update={"published_protocol": True}))
    for seed in inputs.run.seeds:
        assert expected[f"seed-{seed}.safetensors"] == watched[f"seed-{seed}.safetensors"]
        facts, before = (unsealed(files[f"seed-{seed}.json"]) for files in (watched, expected))
        curve = [record.pop("test/accuracy") for record in facts["history"]]
        assert facts["train"].pop("published_protocol") is not before["train"].pop("published_protocol")
        assert facts == before
        method, _ = load_seed(tmp_path / "watched", seed)
        kept = scored(method, inputs, "test")
        assert curve[facts["best_epoch"]] == pytest.approx(kept)
        assert len(set(curve)) > 1


@pytest.mark.fault(14)
def test_unseen_scores_leave_out_clips_that_are_also_in_train(tmp_path):
    inputs = make_inputs(tmp_path, epochs=1)
    train(inputs, tmp_path / "run", SELDOM)
    for name, again in (("plain", []), ("repeated", [("train", 16), ("val", 17), ("train", 1)])):  # only clip 16 is in test and train
        index = pd.concat([inputs.index, *(inputs.index.iloc[[n]].assign(split=split) for split, n in again)])
        (tmp_path / name).mkdir()
        evaluate_run(replace(inputs, index=index), tmp_path / "run", EVERY_STEP, tmp_path / name)
    assert "test_unseen" not in json.loads((tmp_path / "plain" / "metrics.json").read_text(encoding="utf-8"))["seeds"]
    document = json.loads((tmp_path / "repeated" / "metrics.json").read_text(encoding="utf-8"))
    assert document["clips"]["test_unseen"] == {"evaluated": 4, "without features": []}
    table = pd.read_parquet(tmp_path / "repeated" / "predictions.parquet")
    for seed in (3, 4):
        rest = table[(table["seed"] == seed) & (table["split"] == "test") & (table["clip"] != "clip16")]
        share = 100 * (rest["true"] == rest["predicted"]).mean()
        assert document["seeds"]["test_unseen"][str(seed)]["accuracy"] == pytest.approx(share)
        assert len(rest) == 4 * T


@pytest.mark.processor
@pytest.mark.parametrize("method", WEAK)
def test_a_run_trained_in_bfloat16_has_finite_float32_weights_and_scores(tmp_path, plain_store, method):
    """Every method of the task, including those with an LSTM, on any processor."""
    inputs = weak_inputs(plain_store, method, supervision="full")
    settings = SELDOM.model_copy(update={"precision": "bf16-mixed"})
    train(inputs, tmp_path / "run", settings)
    weights = load_file(tmp_path / "run" / "seed-3.safetensors")
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in weights.values() if weight.is_floating_point())
    (tmp_path / "scores").mkdir()
    evaluate_run(inputs, tmp_path / "run", settings, tmp_path / "scores")
    table = pd.read_parquet(tmp_path / "scores" / "predictions.parquet")
    assert len(table) == 10 * T  # 5 clips of val, 5 of test


def test_compiled_losses_train_the_same_weights_and_store_them_under_the_same_names(tmp_path, monkeypatch):
    """The back end runs every graph unchanged, so no number changes; without any graph nothing was compiled."""
    inputs, graphs, compile_function = make_inputs(tmp_path, epochs=2, seeds=(3,)), [], torch.compile
    inputs.settings["recipe"]["batch_size"] = 5  # of one size, for which all is compiled once

    def as_it_is(graph, _):
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    plain = train(inputs, tmp_path / "plain", SELDOM)
    monkeypatch.setattr(loop.torch, "compile", lambda function: compile_function(function, backend=as_it_is))
    again = train(inputs, tmp_path / "compiled", SELDOM.model_copy(update={"compile": True}))
    assert sum(graphs) > 10
    facts, of_plain = (unsealed(files.pop("seed-3.json")) for files in (again, plain))
    assert facts["train"].pop("compile") is not of_plain["train"].pop("compile")
    assert facts == of_plain
    assert again == plain
