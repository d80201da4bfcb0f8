"""Fine-tuning of the audio encoder, alone and with the visual one."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from pipeline.contrastive import trainer
from pipeline.contrastive.batches import ClipBatch
from pipeline.contrastive.model import ContrastiveModel, Heads
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.contrastive.steps import cached_step, plain_step
from pipeline.encoders import create
from pipeline.features.problems import finetuned_problems

pytestmark = pytest.mark.processor

AUDIO = {"encoder": "hear", "module": str(Path(__file__).with_name("tiny_audio.py"))}
VISUAL = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32}
FABRIC = Fabric(accelerator="cpu", devices=1)


def run(world, directory, **changes) -> dict[str, bytes]:
    """All files of a fine-tuning by path."""
    directory.mkdir(parents=True, exist_ok=True)
    world.finetuning(audio=AUDIO, **changes).run(directory)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def untouched(encoder: dict) -> dict[str, torch.Tensor]:
    return create(**{"name": encoder["encoder"], **{key: value for key, value in encoder.items() if key != "encoder"}}).network.state_dict()


@pytest.mark.parametrize("train", ["audio", "both"])
def test_the_trained_sides_are_published_and_load(train, world_class, tmp_path, monkeypatch):
    world = world_class(tmp_path / "cache", splits="t" * 8)  # without validation the last epoch is kept
    published = run(world, tmp_path / "models/encoders/tuned", train=train, head_epochs=0, epochs=4, milestones=[], learning_rate=0.1)
    assert ("encoder.safetensors" in published) == (train == "both")
    monkeypatch.chdir(tmp_path)
    place = Path("models/encoders/tuned")
    tuned = load_file(place / "audio/encoder.safetensors")
    before = untouched(AUDIO)
    assert tuned.keys() == before.keys()
    assert all(not torch.equal(tuned[name], before[name]) for name in before)
    encoder = create("hear", module=AUDIO["module"], weights="finetuned/tuned/audio")
    assert torch.equal(encoder.network.last.weight, tuned["last.weight"])
    losses = [float(line.split(",")[1]) for line in (place / "curve.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert losses[-1] < 0.9 * losses[0]


def test_heads_alone_and_the_last_block_alone_keep_the_rest(world, tmp_path):
    before = untouched(AUDIO)
    for last, moved in ((0, set()), (1, {"last.weight", "last.bias"})):
        run(world, tmp_path / str(last), train="audio", train_last=last, epochs=1, validate_every=1)
        tuned = load_file(tmp_path / str(last) / "audio/encoder.safetensors")
        kept = json.loads((tmp_path / str(last) / "finetune.json").read_text(encoding="utf-8"))["best_epoch"]
        assert {name for name in before if not torch.equal(tuned[name], before[name])} == (moved if kept >= 0 else set())


STOPPED = {"train": "both", "optimizer": "adamw", "learning_rate": 1e-3, "gradient_cache": 3, "epochs": 2, "checkpoint_seconds": 0.0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, world_class):
    """The files of a fine-tuning with those settings that ran through."""
    root = tmp_path_factory.mktemp("whole")
    return run(world_class(root / "cache"), root / "whole", **STOPPED)


@pytest.mark.parametrize("stop", [1, 5])
@pytest.mark.fault(20)
def test_resumed_to_the_byte(stop, whole, world, tmp_path, monkeypatch):
    step, begun = trainer.Finetuner._step, []

    def counted(self, rows, batch):
        begun.append(len(rows))
        if len(begun) == stop + 1:
            raise KeyboardInterrupt
        step(self, rows, batch)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Finetuner, "_step", counted)
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path / "stopped", **STOPPED)
    assert run(world, tmp_path / "stopped", **STOPPED) == whole


@pytest.mark.parametrize("train", ["audio", "both"])
def test_cached_gradients_are_those_of_the_whole_batch(train):
    torch.manual_seed(0)
    settings = FinetuneSettings.model_validate({"visual": VISUAL, "audio": AUDIO, "batch_norm": "frozen", "train": train})
    visual, audio = (create(**{"name": each["encoder"], **{k: v for k, v in each.items() if k != "encoder"}}) for each in (VISUAL, AUDIO))
    audio.network.second[1].p = 0.0  # dropout draws for the parts what it draws for a batch only if they are the same
    heads = Heads(settings, visual.output_shape[-1], 7, torch.zeros(7), torch.ones(7))
    model = ContrastiveModel(visual, heads, settings, audio)
    model.thaw()
    model.train()
    owner, heard = torch.tensor([0, 0, 1, 2, 2, 3]), torch.tensor([0, 1, 1, 1, 2, 3, 3])
    frames, sound = torch.randn(6, 3, 32, 32), torch.randn(7, 4000)
    batch = ClipBatch(frames.double(), owner, sound.double(), torch.tensor([0, 1, 2, 1]), heard)
    model.double()  # some gradients are tiny differences of large sums
    found = {}
    for name, step, arguments in (("plain", plain_step, ()), ("cached", cached_step, (2,))):
        each = copy.deepcopy(model)
        wrapped, _ = FABRIC.setup(each, torch.optim.SGD([p for p in each.parameters() if p.requires_grad], lr=1))
        loss = step(FABRIC, wrapped, batch, True, *arguments)
        found[name] = loss, {key: p.grad for key, p in each.named_parameters() if p.grad is not None}
    (loss, plain), (cached_loss, cached) = found["plain"], found["cached"]
    torch.testing.assert_close(cached_loss, loss)
    assert plain.keys() == cached.keys()
    assert any(key.startswith("audio.") for key in plain)
    assert any(key.startswith("encoder.") for key in plain) == (train == "both")
    for key, gradient in plain.items():
        torch.testing.assert_close(cached[key], gradient, rtol=1e-7, atol=1e-9 * float(gradient.abs().max()) + 1e-15, msg=key)


@pytest.mark.parametrize(
    ("finetuned", "visual", "audio", "train", "says"),
    [
        ("tuned", "pretrained", "finetuned/tuned/audio", "audio", None),
        ("tuned", "finetuned/tuned", "finetuned/tuned/audio", "both", None),
        ("tuned", "finetuned/tuned", "pretrained", "both", None),
        ("tuned", "finetuned/tuned", "none", "audio", "visual.weights: finetuned/tuned: finetune.tuned trains the audio encoder alone"),
        (
            "tuned",
            "finetuned/tuned",
            "finetuned/tuned/audio",
            "visual",
            "audio: finetune.tuned trains the visual encoder alone, not the audio one",
        ),
        ("tuned", "none", "finetuned/tuned", "audio", "audio.weights: finetuned: tuned needs weights: finetuned/tuned/audio"),
        ("tuned", "none", "none", "audio", "audio.weights: finetuned: tuned needs weights: finetuned/tuned/audio"),
        ("none", "none", "finetuned/tuned/audio", "audio", "finetuned: the weights are finetuned/tuned/audio; set finetuned: tuned"),
    ],
)
def test_feature_sets_name_what_was_trained(finetuned, visual, audio, train, says):
    chosen = {"finetuned": finetuned, "visual": {**VISUAL, "weights": visual}, "audio": {**AUDIO, "weights": audio}}
    found = finetuned_problems("features.x", chosen, {"tuned": {"visual": VISUAL, "audio": AUDIO, "train": train}})
    assert (found == []) if says is None else (len(found) == 1 and says in found[0]), found
