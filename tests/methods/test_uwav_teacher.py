"""UWAV's teachers: their size, their answers and loss restated in NumPy, float64, one clip at a time, and their text vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import Restatement, binary, relu, scatter, sigmoid
from test_han import CLASSES, LENGTHS, example
from torch.nn.functional import normalize

from pipeline.errors import InputProblems
from pipeline.methods import METHODS, Progress, create
from pipeline.methods.uwav_teacher import Teacher, UwavTeacherConfig
from pipeline.tasks.avvp_av import JointTargets

SETTINGS = {
    "width": 6, "hidden": 5, "layers": 2, "heads": 2, "feedforward": 4, "dropout": 0.0, "audio_text_width": 3, "visual_text_width": 4,
}  # fmt: skip
NAMES = ["Car passing", "Dog_bark", "Speech"]


def build(**config):
    torch.manual_seed(1)
    return create("uwav_teacher", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, **{**SETTINGS, **config})


class Reference(Restatement):
    """Logits (T, C) of one clip in one modality."""

    def __call__(self, name, x, texts, scale):
        x = self.linear(f"{name}.embed.2", relu(self.linear(f"{name}.embed.0", x)))
        for number in range(2):
            layer = f"{name}.layers.{number}"
            x = self.norm(f"{layer}.norm1", x + self.multi_head(f"{layer}.self_attn", x, x))
            x = self.norm(f"{layer}.norm2", x + self.linear(f"{layer}.linear2", relu(self.linear(f"{layer}.linear1", x))))
        return scale * self.linear(f"{name}.project.2", relu(self.linear(f"{name}.project.0", x))) @ texts.T


def test_answers_and_loss_equal_the_numpy_restatement():
    batch, _ = example()
    method = scatter(build(audio_scale=1.5, visual_scale=0.5)).eval()
    generator = np.random.default_rng(0)
    truth = torch.from_numpy(generator.random((3, 5, CLASSES)) < 0.3)
    truth[0, :, 0] = False
    truth[2, 1:] = True  # behind the end of a clip
    reference, scores, terms = Reference(method), method.predict(batch), []
    for n, length in enumerate(LENGTHS):
        heard = reference("audio", batch.audio[n, :length].numpy(), method.audio_texts.numpy(), 1.5)
        seen = reference("visual", batch.visual[n, :length].mean(dim=1).numpy(), method.visual_texts.numpy(), 0.5)
        both, true = sigmoid(heard) * sigmoid(seen), truth[n, :length].numpy()
        np.testing.assert_allclose(scores.audio[n, :length].detach(), both, atol=1e-10)
        np.testing.assert_allclose(scores.clip_visual[n].detach(), both.max(axis=0), atol=1e-10)
        terms += [(5 if true[:, c].any() else 1) * binary(both[t, c], true[t, c]) for t in range(length) for c in range(CLASSES)]
    assert torch.equal(scores.audio, scores.visual)
    assert scores.thresholds[0, :, :, 0].tolist() == [[0.5, 0.0], [0.5, 0.0]]
    nothing = torch.zeros(3, 1)
    losses = method.losses(batch, JointTargets(truth, truth.any(dim=1), nothing, nothing, nothing), Progress(0, 1))
    assert losses["total"].item() == losses["segments"].item() == pytest.approx(np.mean(terms), abs=1e-9)


def test_parameters_as_the_released_networks_have():
    with torch.device("meta"):
        teachers = [Teacher(width, UwavTeacherConfig(), width) for width in (768, 512)]
    assert sum(weight.numel() for teacher in teachers for weight in teacher.parameters()) == 92_985_856


def test_the_released_settings_are_the_defaults():
    config = METHODS.get("uwav_teacher").Config()
    assert (config.audio_scale, config.visual_scale, config.present_weight, config.dropout) == (3.2912, 4.6052, 5.0, 0.3)
    recipe = config.recipe
    assert (recipe.optimizer, recipe.betas, recipe.learning_rate, recipe.weight_decay, recipe.clip_norm) == (
        "adamw", (0.5, 0.999), 1e-4, 1e-3, 2.0,
    )  # fmt: skip
    assert (recipe.schedule, recipe.warmup_epochs, recipe.minimum, recipe.epochs, recipe.batch_size) == ("warmup_cosine", 10, 1e-5, 80, 64)


def test_text_vectors_come_from_files_at_unit_length_or_are_the_same_at_random(tmp_path):
    path = tmp_path / "texts.npz"
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.savez(path, names=np.array(NAMES), vectors=vectors)
    method = build(visual_texts=path)
    method.prepare(None, list)
    torch.testing.assert_close(method.visual_texts, normalize(torch.from_numpy(vectors), dim=1))
    assert torch.equal(method.audio_texts, build().audio_texts)
    config = METHODS.get("uwav_teacher").Config
    assert config(visual_texts=path, visual_text_width=4).class_problems(NAMES) == []
    faults = config(visual_texts=path, audio_texts=tmp_path / "none.npz").class_problems([*NAMES[:2], "Cat"])
    assert [fault.partition(": ")[0] for fault in faults] == ["audio_texts", "visual_texts", "visual_texts"]
    assert "set visual_text_width: 4" in faults[1]
    assert "'Cat'" in faults[2]
    with pytest.raises(InputProblems, match=r"audio_texts: .*\(3, 4\).*\(3, 3\)"):
        build(audio_texts=path).prepare(None, list)
