"""HAN: its size, and its forward pass and losses restated in NumPy, float64, one clip at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import Restatement, binary, relu, scatter, sigmoid, softmax

from pipeline.batch import Batch
from pipeline.methods import Progress, create
from pipeline.tasks.labels import VideoTargets

CLASSES, LENGTHS = 3, (5, 3, 1)


def build(motion=True, **config):
    torch.manual_seed(1)
    method = create(
        "han", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, width=6, feedforward=8,
        dropout=0.0, motion="motion" if motion else None, **config,
    )  # fmt: skip
    return scatter(method)


def example():
    generator = torch.Generator().manual_seed(0)
    visual, audio, motion = (torch.randn(3, 5, *shape, generator=generator, dtype=torch.float64) for shape in ((2, 4), (7,), (5,)))
    labels = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    return Batch(visual, audio, torch.arange(5) < torch.tensor(LENGTHS)[:, None], {"motion": motion}), VideoTargets(labels)


class Reference(Restatement):
    """One clip -> p^a, p^v (T, C), P^a, P^v, P (C,), from the spec's formulas; the frames averaged after their layer."""

    def __call__(self, visual, audio, motion):
        audio, visual = self.tracks(visual, audio, motion)
        return self.mmil(self.layer(audio, visual), self.layer(visual, audio))

    def tracks(self, visual, audio, motion):
        """Audio and visual before the attention."""
        visual = self.linear("front_end.visual", visual).mean(axis=1)
        if motion is not None:
            visual = self.linear("front_end.fusion", np.concatenate([visual, self.linear("front_end.motion", motion)], axis=1))
        return self.linear("front_end.audio", audio), visual

    def layers(self, name, number, audio, visual, heads, sequential):
        """Both streams through layers one after another."""
        for layer in (f"{name}layers.{n}" for n in range(number)):
            updated = self.layer(audio, visual, layer, heads)
            visual = self.layer(visual, updated if sequential else audio, layer, heads)
            audio = updated
        return audio, visual

    def layer(self, q, o, name="attention", heads=1):
        own, cross = self.multi_head(f"{name}.own", q, q, heads), self.multi_head(f"{name}.cross", q, o, heads)
        h = self.norm(f"{name}.attention_norm", q + cross + own)
        return self.norm(
            f"{name}.feedforward_norm", h + self.linear(f"{name}.feedforward.3", relu(self.linear(f"{name}.feedforward.0", h)))
        )

    def mmil(self, audio, visual):
        return self.pooled([sigmoid(self.linear("pooling.classifier", x)) for x in (audio, visual)], (audio, visual), "pooling.")

    def pooled(self, p, streams, prefix=""):
        over_time = [softmax(self.linear(f"{prefix}over_time", x).T).T for x in streams]
        over_modalities = softmax(np.stack([self.linear(f"{prefix}over_modalities", x) for x in streams], axis=-1))
        clips = [(w * q).sum(axis=0) for w, q in zip(over_time, p, strict=True)]
        return *p, *clips, sum((over_time[m] * over_modalities[..., m] * p[m]).sum(axis=0) for m in range(2))


@pytest.mark.parametrize("motion", [True, False])
def test_forward_and_losses_equal_the_numpy_restatement(motion):
    batch, targets = example()
    method = build(motion)
    reference, terms = Reference(method), {"audio": [], "visual": [], "clip": []}
    scores = method.predict(batch)
    for clip, length in enumerate(LENGTHS):
        streams = [stream[clip, :length].numpy() for stream in (batch.visual, batch.audio, batch.others["motion"])]
        p_audio, p_visual, audio, visual, whole = reference(streams[0], streams[1], streams[2] if motion else None)
        np.testing.assert_allclose(scores.audio[clip, :length].detach(), p_audio, atol=1e-10)
        np.testing.assert_allclose(scores.visual[clip, :length].detach(), p_visual, atol=1e-10)
        np.testing.assert_allclose(scores.clip_audio[clip].detach(), whole, atol=1e-10)
        assert torch.equal(scores.clip_audio, scores.clip_visual)  # one gate for both
        for number in range(CLASSES):
            y = targets.labels[clip, number].item()
            terms["audio"].append(binary(audio[number], y))
            terms["visual"].append(binary(visual[number], 0.9 * y + 0.05))
            terms["clip"].append(binary(min(whole[number], 1 - 1e-7), y))
    losses = method.losses(batch, targets, Progress(0, 1))
    for name, values in terms.items():
        assert losses[name].item() == pytest.approx(np.mean(values), abs=1e-10), name
    assert losses["total"].item() == pytest.approx(sum(np.mean(values) for values in terms.values()), abs=1e-10)


def test_parameters_as_the_released_network_uses():
    method = create("han", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, other_shapes={"motion": (512,)})
    assert sum(weight.numel() for weight in method.parameters()) == 4_569_675


def test_thresholds_are_those_of_the_settings():
    batch, _ = example()
    thresholds = build(segment_threshold=0.25, clip_threshold=0.45).predict(batch).thresholds
    assert thresholds[0, :, :, 0].tolist() == [[0.25, 0.45], [0.25, 0.45]]
    assert (thresholds == thresholds[:1, :, :, :1]).all()


def test_frames_are_pooled_before_their_layer_with_no_difference():
    """In float32, at the published widths: below 1e-6 of values of about 1."""
    torch.manual_seed(0)
    method = create("han", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, motion=None)
    batch = Batch(torch.randn(2, 10, 8, 2048), torch.randn(2, 10, 128), torch.ones(2, 10, dtype=torch.bool))
    with torch.no_grad():
        pooled = method.front_end.visual(method.inputs(batch).visual)
        unpooled = method.front_end.visual(batch.visual).mean(dim=2)
    assert unpooled.abs().max() > 0.5
    assert (pooled - unpooled).abs().max() < 1e-6
