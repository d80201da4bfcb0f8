"""DHHN: its sizes, its forward pass and losses restated in NumPy, float64, clip by clip, its batch norm, and its guides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import binary, relu, scatter, sigmoid, softmax
from test_han import CLASSES, LENGTHS, example
from test_han import Reference as HanReference
from torch import nn

from pipeline.methods import Progress, create
from pipeline.methods.dhhn.method import SCALES, Dhhn
from pipeline.methods.dhhn.scales import ScaleBranch, ValidBatchNorm, on_segments
from pipeline.tasks.labels import VideoTargets
from pipeline.training.optimizer import optimizer_of

ROWS = [7, 2, 5]


def build(**config) -> Dhhn:
    torch.manual_seed(1)
    method = scatter(
        create(
            "dhhn", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, width=6, feedforward=8,
            dropout=0.0, guide_heads=2, **config,
        )
    )  # fmt: skip
    for name, buffer in method.named_buffers():
        if "running" in name:
            nn.init.uniform_(buffer, 0.5, 1.5)
    return method


class Reference(HanReference):
    """All clips, since batch norm of a training step counts them together; from the spec's formulas."""

    def scale(self, name, clips, kernel, stride, training):
        weight = self.state[f"{name}.convolution.weight"]  # (D, D, kernel)
        cells = []
        for x in clips:
            of_clip = []
            for centre in range(0, len(x), stride):
                reads = [(k, centre + k - kernel // 2) for k in range(kernel)]
                of_clip.append(sum(weight[:, :, k] @ x[t] for k, t in reads if 0 <= t < len(x)))
            cells.append(np.array(of_clip))
        together = np.concatenate(cells)
        mean, variance = self.state[f"{name}.norm.running_mean"], self.state[f"{name}.norm.running_variance"]
        if training:
            mean, variance = together.mean(axis=0), together.var(axis=0)
        return [
            relu((x - mean) / np.sqrt(variance + 1e-5) * self.state[f"{name}.norm.weight"] + self.state[f"{name}.norm.bias"]) for x in cells
        ]

    def main(self, tracks, training):
        """Of every clip: means over the scales of p^a, p^v (T, C), P^a, P^v, P (C,)."""
        sums = [(np.zeros_like(a), np.zeros_like(v)) for a, v in tracks]
        said = [[] for _ in tracks]
        for r, (kernel, stride) in enumerate(SCALES):
            audio = self.scale(f"audio_branches.{r}", [a for a, _ in tracks], kernel, stride, training)
            visual = self.scale(f"visual_branches.{r}", [v for _, v in tracks], kernel, stride, training)
            for n, (a, v) in enumerate(zip(audio, visual, strict=True)):
                length = len(sums[n][0])
                up = [int(t * len(a) / length) for t in range(length)]
                sums[n] = (sums[n][0] + self.layer(a, v)[up], sums[n][1] + self.layer(v, a)[up])
                said[n].append(self.mmil(*sums[n]))
        return [[np.mean(parts, axis=0) for parts in zip(*of_clip, strict=True)] for of_clip in said]

    def guide(self, name, x, layers, rounds):
        for _ in range(rounds):
            y = x
            for number in range(layers):
                layer = f"{name}.guide.encoder.layers.{number}"
                y = self.norm(f"{layer}.norm1", y + self.multi_head(f"{layer}.self_attn", y, y))
                y = self.norm(f"{layer}.norm2", y + self.linear(f"{layer}.linear2", relu(self.linear(f"{layer}.linear1", y))))
            x = x + y
        over_time = softmax(self.linear(f"{name}.guide.over_time", x).T).T
        return (over_time * sigmoid(self.linear(f"{name}.guide.classifier", x))).sum(axis=0)

    def guides(self, visual, audio, motion):
        """G^a, G^v, (C,) each."""
        seen = self.linear("visual_guide.front_end.visual", visual).mean(axis=1)
        seen = np.concatenate([seen, self.linear("visual_guide.front_end.motion", motion)], axis=1)
        heard = self.linear("audio_guide.front_end", audio)
        return self.guide("audio_guide", heard, 1, 4), self.guide("visual_guide", self.linear("visual_guide.front_end.fusion", seen), 2, 3)


def streams_of(batch):
    """Of every clip: visual, audio and motion of its valid segments."""
    streams = (batch.visual, batch.audio, batch.others["motion"])
    return [[stream[n, :length].numpy() for stream in streams] for n, length in enumerate(LENGTHS)]


def test_answers_equal_the_numpy_restatement():
    batch, _ = example()
    method = build().eval()
    reference, scores = Reference(method), method.predict(batch)
    said = reference.main([reference.tracks(*streams) for streams in streams_of(batch)], training=False)
    for n, (p_audio, p_visual, audio, visual, _) in enumerate(said):
        np.testing.assert_allclose(scores.audio[n, : LENGTHS[n]].detach(), p_audio, atol=1e-10)
        np.testing.assert_allclose(scores.visual[n, : LENGTHS[n]].detach(), p_visual, atol=1e-10)
        np.testing.assert_allclose(scores.clip_audio[n].detach(), audio, atol=1e-10)  # each modality has its own gate
        np.testing.assert_allclose(scores.clip_visual[n].detach(), visual, atol=1e-10)


@pytest.mark.parametrize("variant", [None, "fixed", "released"])
def test_losses_equal_the_numpy_restatement(variant):
    """Without and with removed labels; one removed from the audio stays in the clip's target, except in the released variant."""
    batch, targets = example()
    method = build() if variant is None else build(refine=True, variant=variant)
    y, absent = targets.labels[:, :CLASSES].numpy(), np.zeros((2, 9, CLASSES), bool)
    if variant is not None:
        absent[0, 7, 1] = absent[1, 7, 0] = absent[1, 2, 2] = True
        method.removed_audio, method.removed_visual = torch.tensor(absent)
    reference, streams = Reference(method), streams_of(batch)
    said = reference.main([reference.tracks(*of_clip) for of_clip in streams], training=True)
    found = {name: [] for name in ("audio", "visual", "clip", "audio_guided", "visual_guided", "apart")}
    found |= {name: [] for name in ("audio_guide", "visual_guide", "guides_apart")}
    for n, (_, _, audio, visual, whole) in enumerate(said):
        heard, seen = reference.guides(*streams[n])
        for c in range(CLASSES):
            of_sound = 0.0 if absent[0, ROWS[n], c] else y[n, c]
            of_picture = 0.0 if absent[1, ROWS[n], c] else 0.9 * y[n, c] + 0.05
            found["audio"].append(binary(audio[c], of_sound))
            found["visual"].append(binary(visual[c], of_picture))
            found["clip"].append(binary(min(whole[c], 1 - 1e-7), of_sound if variant == "released" else y[n, c]))
            found["audio_guided"].append((audio[c] - heard[c]) ** 2)
            found["visual_guided"].append((visual[c] - seen[c]) ** 2)
            found["apart"].append((audio[c] - visual[c]) ** 2)
            found["audio_guide"].append(binary(heard[c], y[n, c] if variant is None else of_sound))
            found["visual_guide"].append(binary(seen[c], y[n, c] if variant is None else of_picture))
            found["guides_apart"].append((heard[c] - seen[c]) ** 2)
    expected = {name: np.mean(values) for name, values in found.items()}
    expected["total"] = sum(value * (-1 if name.endswith("apart") else 1) for name, value in expected.items())
    losses = method.losses(batch, VideoTargets(targets.labels, torch.tensor(ROWS)), Progress(0, 9))
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, abs=1e-9)


def test_parameters_as_the_released_networks_use():
    method = create("dhhn", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, other_shapes={"motion": (512,)})
    sizes = {part: sum(weight.numel() for weight in getattr(method, part).parameters()) for part in ("audio_guide", "visual_guide")}
    assert sizes == {"audio_guide": 1_669_682, "visual_guide": 5_018_162}
    assert sum(weight.numel() for weight in method.parameters()) == 9_294_411 + sum(sizes.values())


def test_batch_norm_of_full_clips_is_torchs():
    """Two steps of training, and an answer."""
    torch.manual_seed(0)
    ours, theirs = ValidBatchNorm(4).double(), nn.BatchNorm1d(4).double()
    full = torch.ones(3, 5, dtype=torch.bool)
    for step in range(3):
        if step == 2:
            ours.eval(), theirs.eval()
        values = 2 * torch.randn(3, 5, 4, dtype=torch.float64) + 1
        torch.testing.assert_close(ours(values, full), theirs(values.transpose(1, 2)).transpose(1, 2))
    torch.testing.assert_close(ours.running_variance, theirs.running_var)
    ours.train()(values, ~full)
    torch.testing.assert_close(ours.running_variance, theirs.running_var)  # nothing but padding


def test_the_coarsest_scale_of_ten_segments_never_reads_the_last_two():
    mask = torch.ones(1, 10, dtype=torch.bool)
    branch, stream = ScaleBranch(4, *SCALES[2]).eval(), torch.randn(1, 10, 4, requires_grad=True)
    cells = branch(stream, mask)
    reads = [torch.autograd.grad(cells[0, cell].sum(), stream, retain_graph=True)[0][0].abs().sum(dim=1) > 0 for cell in range(2)]
    assert [row.nonzero().flatten().tolist() for row in reads] == [[0, 1, 2], [3, 4, 5, 6, 7]]
    numbered = torch.arange(5.0)[None, :, None]
    assert on_segments(numbered[:, :2], mask, 5).flatten().tolist() == [0] * 5 + [1] * 5
    assert on_segments(numbered, mask, 2).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_guides_teach_and_are_not_kept():
    """No gradient of the main network's terms reaches a guide; their factors are rates; predictions need none of them."""
    method, (batch, targets) = build(), example()
    losses = method.losses(batch, targets, Progress(0, 9))
    main = sum(losses[name] for name in ("audio", "visual", "clip", "audio_guided", "visual_guided", "apart"))
    main.backward(retain_graph=True)
    guides = {name for name, _ in method.named_parameters() if "guide." in name}
    assert {name for name, weight in method.named_parameters() if weight.grad is None} == guides
    rates = sorted((group["lr"], len(group["params"])) for group in optimizer_of(method.config.recipe, method).param_groups)
    assert [rate for rate, _ in rates] == pytest.approx([6e-5, 3e-4, 6e-4])
    assert rates[0][1] + rates[2][1] == len(guides)
    kept = method.kept_weights()
    assert method.state_dict().keys() - kept.keys() == guides
    other = build()
    other.load_kept(kept)
    torch.testing.assert_close(other.eval().predict(batch).clip_visual, method.eval().predict(batch).clip_visual)
    with pytest.raises(AssertionError, match="create the method again"):
        other.losses(batch, targets, Progress(0, 9))
