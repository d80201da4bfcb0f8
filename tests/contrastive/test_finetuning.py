"""Whole fine-tunings of a small network on a little world."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import multiprocessing

from pipeline import epochs
from pipeline.contrastive import batches, data, finetuning, trainer
from pipeline.contrastive.finetuning import finetuned_on
from pipeline.contrastive.schedule import learning_rate_factor
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.encoders import create
from pipeline.errors import PipelineError
from pipeline.machine import this_machine
from pipeline.metrics.retrieval import retrieval_metrics
from pipeline.stage import publishing
from tests.wording import says

STEPS = 3 * 3  # epochs x steps of 4, 4 and 2 clips
EVERY_STEP = {"checkpoint_seconds": 0.0}


def stop_after(monkeypatch, steps, how):
    """Do ``how`` instead of step number ``steps``, counted from 0; return the count of steps begun."""
    step, begun = trainer.Finetuner._step, []

    def counted(self, rows, batch):
        begun.append(len(rows))
        if len(begun) == steps + 1:
            how()
        step(self, rows, batch)

    monkeypatch.setattr(trainer.Finetuner, "_step", counted)
    return begun


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, world_class):
    """(root of models/, files) of a fine-tuning by the settings of ``world`` that ran through."""
    root = tmp_path_factory.mktemp("undisturbed")
    return root, world_class(root / "cache").run(root / "models/encoders/tuned")


def test_published_weights_load_and_reproduce_their_metrics(world, undisturbed, monkeypatch):
    root, published = undisturbed
    assert list(published) == ["curve.csv", "encoder.safetensors", "finetune.json", "heads.safetensors"]
    monkeypatch.chdir(root)
    facts = json.loads(published["finetune.json"])
    options = {key: value for key, value in facts["settings"]["visual"].items() if key != "encoder"}
    encoder = create("timm", **{**options, "weights": "finetuned/tuned"})
    heads = load_file("models/encoders/tuned/heads.safetensors")
    visual, audio, logmel = [], [], create("logmel")
    for item in world.select().validation:
        frames, waveform, rate = data.load_decoded(world.cache, item.clip, item.job.key)
        with torch.inference_mode():
            visual.append(encoder.encode(encoder.prepare(torch.from_numpy(frames[[1, 3, 5]]))).mean((0, 1, 2)))
            audio.append(logmel.encode(logmel.prepare(torch.from_numpy(waveform), rate, 3, 1.0)).mean(0))
    of_visual = torch.stack(visual) @ heads["visual.weight"].T
    of_audio = ((torch.stack(audio) - heads["mean"]) / heads["deviation"]) @ heads["audio.weight"].T
    expected = retrieval_metrics(torch.nn.functional.normalize(of_visual).numpy(), torch.nn.functional.normalize(of_audio).numpy())
    assert {key: facts["val"]["after"][key] for key in expected} == pytest.approx(expected)
    curve = pd.read_csv("models/encoders/tuned/curve.csv")
    assert list(curve["epoch"]) == [0, 1, 2]
    assert list(curve["learning_rate"]) == pytest.approx([0.01, 0.01, 0.001])
    assert facts["val"]["before"].keys() == facts["val"]["after"].keys()
    assert 1 <= facts["val"]["after"]["effective_rank"] <= 4  # 5 centred clips


def test_the_loss_falls_and_training_heads_alone_keeps_the_encoder(world, tmp_path):
    original = create("timm", model="test_resnet", weights="none", image_size=32, resize=32).network.state_dict()
    world.run(tmp_path / "all", epochs=12, head_epochs=0, milestones=[], validate_every=12)
    curve = pd.read_csv(tmp_path / "all" / "curve.csv")
    assert curve["train/loss"].iloc[-1] < 0.8 * curve["train/loss"].iloc[0]
    world.run(tmp_path / "none", train_last=0)
    frozen = load_file(tmp_path / "none" / "encoder.safetensors")
    assert all(torch.equal(frozen[name], original[name]) for name in original)


@pytest.mark.fault(34)
def test_threads_of_the_settings_override_those_of_the_process(world, tmp_path, monkeypatch):
    seen = []
    stop_after(monkeypatch, 0, lambda: seen.append(torch.get_num_threads()))
    published = []
    before = torch.get_num_threads()
    try:
        for had in (2, 1):
            torch.set_num_threads(had)
            published.append(world.run(tmp_path / f"had-{had}", threads=1))
    finally:
        torch.set_num_threads(before)
    assert seen == [1]  # a process that had two
    assert published[0] == published[1]


def test_every_machine_that_took_part_is_recorded(world, tmp_path, monkeypatch):
    other = {"processor": "AMD EPYC 7B13", "threads": 4}

    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as elsewhere:
        stop_after(elsewhere, 4, interrupt)
        elsewhere.setattr(epochs, "this_machine", lambda device: other)
        with pytest.raises(KeyboardInterrupt):
            world.run(tmp_path / "a", **EVERY_STEP)
    assert json.loads(world.run(tmp_path / "a", **EVERY_STEP)["finetune.json"])["machines"] == [other, this_machine()]
    assert finetuned_on(tmp_path / "a") == [other, this_machine()]


def test_the_best_validation_is_kept_and_patience_ends_the_training(world, tmp_path):
    published = world.run(tmp_path / "a", epochs=9, learning_rate=1e-12, head_learning_rate=1e-12, patience=2)
    facts = json.loads(published["finetune.json"])
    assert (facts["epochs"], facts["best_epoch"]) == (2, -1)  # nothing moves: two validations no better than the first
    assert facts["val"]["before"] == facts["val"]["after"]
    facts = json.loads(world.run(tmp_path / "b", epochs=8, head_epochs=0)["finetune.json"])
    curve = pd.read_csv(tmp_path / "b" / "curve.csv")
    columns = [f"{way}/recall@{cutoff}" for way in ("v2a", "a2v") for cutoff in (1, 5, 10)]
    scores = [np.mean([facts["val"]["before"][column] for column in columns]), *curve[[f"val/{column}" for column in columns]].mean(axis=1)]
    assert facts["best_epoch"] == int(np.argmax(scores)) - 1
    chosen = curve.set_index("epoch").to_dict("index").get(facts["best_epoch"])
    of_best = facts["val"]["before"] if facts["best_epoch"] < 0 else {column: chosen[f"val/{column}"] for column in columns}
    for column in columns:
        assert facts["val"]["after"][column] == pytest.approx(of_best[column])


STOPPED = {"optimizer": "adamw", "learning_rate": 1e-3, "gradient_cache": 3, **EVERY_STEP}


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory, world_class):
    """The files of a fine-tuning with those settings that ran through."""
    root = tmp_path_factory.mktemp("whole")
    return world_class(root / "cache").run(root / "whole", **STOPPED)


@pytest.mark.parametrize("steps", [0, 2, 3, 7])  # before the first step, inside an epoch, at an epoch's start, later
@pytest.mark.fault(20)
def test_a_run_stopped_at_any_step_and_resumed_gives_the_same_bytes(world, tmp_path, monkeypatch, steps, never_stopped):
    changes, expected = STOPPED, never_stopped

    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        stop_after(patch, steps, interrupt)
        with pytest.raises(KeyboardInterrupt):
            world.run(tmp_path / "stopped", **changes)
    begun = stop_after(monkeypatch, 99, interrupt)
    assert world.run(tmp_path / "stopped", **changes) == expected
    assert len(begun) == STEPS - steps  # none done twice


def killed(_, world, directory, steps):
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, steps, lambda: os.kill(os.getpid(), signal.SIGKILL))
        world.run(directory, train_last=1, **EVERY_STEP)  # with frozen maps, which die with the process


@pytest.mark.fault(20)
def test_a_run_killed_with_sigkill_and_resumed_gives_the_same_bytes(world, tmp_path):
    expected = world.run(tmp_path / "whole", train_last=1, **EVERY_STEP)
    with pytest.raises(multiprocessing.ProcessExitedException, match="SIGKILL"):
        multiprocessing.start_processes(killed, (world, tmp_path / "killed", 5), nprocs=1, start_method="fork")
    assert (tmp_path / "killed" / "finetune.checkpoint").is_file()
    assert not (tmp_path / "killed" / "encoder.safetensors").exists()
    assert world.run(tmp_path / "killed", train_last=1, **EVERY_STEP) == expected


def test_a_damaged_checkpoint_is_discarded_with_a_sentence_and_the_fine_tuning_starts_again(
    world, never_stopped, tmp_path, monkeypatch, capsys
):
    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 3, interrupt)
        world.run(tmp_path / "stopped", **STOPPED)
    checkpoint = tmp_path / "stopped" / "finetune.checkpoint"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert world.run(tmp_path / "stopped", **STOPPED) == never_stopped
    assert says(capsys.readouterr().err, f"{checkpoint} is damaged", "removed")


@pytest.mark.fault(21)
def test_sigterm_lets_the_step_finish_writes_a_checkpoint_and_exits_143(world, undisturbed, tmp_path, monkeypatch):
    begun = stop_after(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        world.run(tmp_path / "stopped")
    assert stop.value.code == 143
    assert len(begun) == 4
    assert world.run(tmp_path / "stopped") == undisturbed[1]
    assert len(begun) == STEPS


def test_test_clips_are_never_opened_and_validation_clips_never_trained_on(world, tmp_path, monkeypatch):
    world.add("leak", "train", content=10)  # the bytes of a validation clip
    opened, trained = [], []
    load, loaded = data.load_decoded, batches.Batches.of_epoch
    monkeypatch.setattr(data, "load_decoded", lambda cache, clip, key, job=None: (opened.append(clip), load(cache, clip, key, job))[1])

    def watched(self, *arguments):
        for rows, batch in loaded(self, *arguments):
            trained.extend(self.clips.items[int(row)].clip for row in rows)
            yield rows, batch

    monkeypatch.setattr(batches.Batches, "of_epoch", watched)
    world.run(tmp_path / "a")
    assert set(trained) == {f"t{number}" for number in range(10)}
    assert set(opened) == set(trained) | {f"v{number}" for number in range(10, 15)}


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.fault(31)
def test_a_non_finite_loss_or_gradient_names_the_clips_and_keeps_the_last_good_weights(world, tmp_path, monkeypatch, what):
    published = tmp_path / "tuned"
    published.mkdir()
    (published / "encoder.safetensors").write_bytes(b"of an earlier run")
    plain, weights = trainer.plain_step, []

    def poisoned(fabric, model, batch, symmetric):
        weights.append({name: value.clone() for name, value in model.module.network.state_dict().items()})
        loss = plain(fabric, model, batch, symmetric)
        if len(weights) == 5 and what == "gradient":
            model.module.heads.audio.weight.grad[0, 0] = torch.inf
        return loss * torch.nan if len(weights) == 5 and what == "loss" else loss

    monkeypatch.setattr(trainer, "plain_step", poisoned)
    order = []
    stop_rows = trainer.Finetuner._stop_for
    monkeypatch.setattr(
        trainer.Finetuner, "_stop_for",
        lambda self, rows, text: (order.extend(self.train.items[int(row)].clip for row in rows), stop_rows(self, rows, text)),
    )  # fmt: skip
    with pytest.raises(PipelineError) as caught, publishing(published, resume="abc") as directory:
        world.run(directory, batch_size=2, epochs=1)
    named = re.search(r"Clips of the step: (.*)$", str(caught.value))
    assert named is not None
    assert named[1].split(", ") == order
    assert len(order) == 2
    assert says(str(caught.value), *(("loss", "nan") if what == "loss" else ("norm", "inf")))
    assert (published / "encoder.safetensors").read_bytes() == b"of an earlier run"
    (left,) = tmp_path.glob(".tuned.*.partial/last_good.safetensors")
    with safe_open(left, "pt") as file:
        assert json.loads(file.metadata()["clips"]) == order
    good = load_file(left)
    assert all(torch.equal(good[name], weights[-1][name]) for name in good)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("network", r"epoch 0 \D*\d+ \(.*learning_rate"),
        ("heads", r"epoch 0 .*heads.* 1 \(heads\.audio\.weight\)"),
        ("scores", "loss.*validation.*nan.*epoch 0.*learning_rate"),
    ],
)
@pytest.mark.fault(31)
def test_weights_made_infinite_by_a_step_are_not_published(world, tmp_path, monkeypatch, where, words):
    """The gradients and the loss before the step are finite."""
    made = trainer.make_optimizer

    def breaking(settings, network, heads):
        optimizer = made(settings, network, heads)
        broken = optimizer.param_groups[0]["params"][-1]
        step = optimizer.step
        number = 0 if where == "heads" else 1  # the heads' own optimizer comes first

        def last(*arguments):
            step(*arguments)
            steps.append(None)
            if len(steps) == 3:  # of ten clips in batches of four
                broken.data.fill_(torch.inf)

        optimizers.append(optimizer)
        if len(optimizers) - 1 == number and where != "scores":
            optimizer.step = last
        return optimizer

    optimizers, steps = [], []
    monkeypatch.setattr(trainer, "make_optimizer", breaking)
    if where == "scores":
        pooled = trainer.Finetuner._pooled_validation
        monkeypatch.setattr(trainer.Finetuner, "_pooled_validation", lambda self: (pooled(self)[0] * torch.nan, pooled(self)[1]))
    with pytest.raises(PipelineError, match=words):
        world.run(tmp_path / "a", epochs=1, head_epochs=1)
    assert not list((tmp_path / "a").glob("encoder.safetensors"))


LAST = (None, 1)  # trained blocks: all; one, behind frozen maps


def work_of_each(fabric, job, directory):
    """What a process does for a fine-tuning, for each of :data:`LAST`."""
    for last in LAST:
        (directory / str(last)).mkdir(exist_ok=True)
        settings = job.settings.model_copy(update={"train_last": last})
        answer = finetuning._work(fabric, replace(job, settings=settings), directory / str(last))
    return answer


@pytest.mark.fault(35)
def test_two_processes_train_the_same_weights_as_one(world, tmp_path, monkeypatch):
    for last in LAST:
        world.run(tmp_path / f"one/{last}", epochs=1, train_last=last)
    monkeypatch.setattr(finetuning, "_work", work_of_each)  # in this process; those that it starts have their own
    (tmp_path / "two").mkdir()
    world.finetuning(epochs=1, devices=2).run(tmp_path / "two")
    for last in LAST:
        for name in ("encoder", "heads"):
            one, two = (load_file(tmp_path / number / f"{last}/{name}.safetensors") for number in ("one", "two"))
            for key, value in one.items():
                torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5, msg=f"{last}: {name} {key}")
        losses = [pd.read_csv(tmp_path / number / f"{last}/curve.csv")["train/loss"] for number in ("one", "two")]
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    trained = [load_file(tmp_path / f"one/{last}/encoder.safetensors") for last in LAST]
    assert any(not torch.equal(value, trained[1][key]) for key, value in trained[0].items())


@pytest.mark.processor
@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "paper", "head_epochs": 0, "visual": {"encoder": "timm", "model": "test_vit", "weights": "none", "image_size": 32,
            "resize": 32, "pool": "average"}, "audio": {"encoder": "yamnet", "weights": "none"}},
        {"precision": "bf16-mixed", "learnable_temperature": True, "schedule": "cosine", "warmup_epochs": 1, "clip_norm": 0.5},
        {"batch_norm": "train", "segments": None, "frames_per_segment": 2, "draw": "once"},
    ],
    ids=["paper", "bf16", "released"],
)  # fmt: skip
def test_other_settings_run(world, tmp_path, changes):
    if changes.get("variant") == "paper":
        with pytest.raises(PipelineError, match=r"variant: paper.*timm.*yamnet"):
            world.run(tmp_path / "a", **changes)
        return
    world.run(tmp_path / "a", **changes)
    curve = pd.read_csv(tmp_path / "a" / "curve.csv")
    assert np.isfinite(curve.to_numpy()).all()
    learnt = not changes.get("learnable_temperature")
    assert (curve["temperature"].nunique() == 1) == learnt


def test_without_usable_clips_and_without_validation(world_class, tmp_path):
    from_nothing = world_class(tmp_path / "a", "v" * 3)
    with pytest.raises(PipelineError, match="training split"):
        from_nothing.run(tmp_path / "none")
    published = world_class(tmp_path / "b", "t" * 5).run(tmp_path / "last")
    facts = json.loads(published["finetune.json"])
    assert (facts["best_epoch"], facts["val"]) == (2, {"before": {}, "after": {}})


def test_the_learning_rate_by_hand():
    base = {"visual": {"encoder": "timm"}, "audio": {"encoder": "logmel"}}
    step = FinetuneSettings.model_validate({**base, "warmup_epochs": 0.5, "milestones": [2, 3]})
    factors = [learning_rate_factor(step, number, 4) for number in range(14)]
    assert factors == pytest.approx([1 / 3, 2 / 3, *[1] * 6, *[0.1] * 4, 0.01, 0.01])
    cosine = FinetuneSettings.model_validate({**base, "schedule": "cosine", "epochs": 2})
    assert [learning_rate_factor(cosine, number, 3) for number in range(6)] == pytest.approx(
        [0.5 * (1 + math.cos(math.pi * number / 6)) for number in range(6)]
    )


def test_the_fingerprint_covers_settings_and_clips(world):
    first = world.finetuning().fingerprint()
    assert world.finetuning().fingerprint() == first
    others = {first, world.finetuning(learning_rate=0.02).fingerprint()}
    world.add("new", "train", content=80)
    others.add(world.finetuning().fingerprint())
    assert len(others) == 3


@pytest.fixture(scope="module")
def unedited(tmp_path_factory, world_class):
    """(a fine-tuning, its fingerprint before any edit)."""
    job = world_class(tmp_path_factory.mktemp("unedited")).finetuning()
    return job, job.fingerprint()


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        *((f"pipeline/{name}.py", True) for name in ("contrastive/loss", "encoders/timm_models", "encoders/logmel", "encoders/weights")),
        *((f"pipeline/{name}.py", True) for name in ("features/passes", "media/decoding", "layers/precision", "checkpoints", "epochs")),
        *((f"pipeline/{name}.py", False) for name in ("encoders/vggish", "methods/avel", "methods/cace_net/spiking", "report/tables")),
    ],
)
def test_the_fingerprint_covers_all_code_that_determines_the_weights_and_no_other(unedited, edited, path, counts):
    job, first = unedited
    edited(path)
    assert (job.fingerprint() != first) == counts


def test_a_fine_tuning_that_gained_nothing_says_so():
    metrics = {"v2a/recall@1": 50.0, "a2v/recall@1": 40.0}
    state = trainer.FinetuningState(best={}, best_epoch=-1, before=metrics, history=[{"epoch": 0}, {"epoch": 1}])
    assert says(finetuning._sentence(state, metrics), "2 epochs: none", "50.0 -> 50.0")
    assert says(finetuning._sentence(replace(state, best_epoch=1), metrics), "2 epochs: 1", "50.0 -> 50.0")
