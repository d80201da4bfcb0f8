"""JoMoLD: its size, its losses from HAN's restated forward pass, and where its noise ratios come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import binary, scatter
from safetensors.torch import load_file, save_file
from test_han import CLASSES, LENGTHS, Reference, example

from pipeline.errors import PipelineError
from pipeline.layers.parsing_losses import stream_contrast
from pipeline.methods import METHODS, Progress, create
from pipeline.methods.shared.denoising import absent_labels
from pipeline.tasks.avvp import ParsingTargets


def build(**config):
    torch.manual_seed(1)
    method = create(
        "jomold", visual_shape=(2, 4), audio_shape=(7,), num_classes=CLASSES, other_shapes={"motion": (5,)}, width=6, feedforward=8,
        dropout=0.0, visual_dropout=0.0, **config,
    )  # fmt: skip
    return scatter(method)


def spoken(method, batch):
    """P^a, P^v, P of each clip by the restatement of HAN: the weights have the same names."""
    reference = Reference(method)
    for clip, length in enumerate(LENGTHS):
        streams = (batch.visual, batch.audio, batch.others["motion"])
        yield reference(*(stream[clip, :length].numpy() for stream in streams))


@pytest.mark.parametrize(("epoch", "noise", "removed"), [(0, 1.0, False), (1, 0.0, False), (1, 1.0, True)])
def test_losses_equal_the_restatement(epoch, noise, removed):
    """With ratio 1 all labels are removed from the modalities from the second epoch on; the clip's labels stay."""
    batch, targets = example()
    method = build()
    method.noise_visual.fill_(noise)
    audio, visual, clip = [], [], []
    for number, (_, _, p_audio, p_visual, p) in enumerate(spoken(method, batch)):
        for c in range(CLASSES):
            y = targets.labels[number, c].item()
            audio.append(binary(p_audio[c], y))
            visual.append(binary(p_visual[c], 0.0 if removed and y else 0.9 * y + 0.05))
            clip.append(binary(min(p[c], 1 - 1e-7), y))
    losses = method.losses(batch, targets, Progress(epoch, 9))
    inputs = method.inputs(batch)
    streams = method.attention(*method.front_end(inputs.visual, inputs.audio, inputs.motion), inputs.mask)
    contrast = stream_contrast(*streams, batch.mask).item()
    assert losses["contrast"].item() == pytest.approx(contrast, abs=1e-12)
    expected = 2 * np.mean(audio) + np.mean(visual) + np.mean(clip) + contrast
    assert losses["total"].item() == pytest.approx(expected, abs=1e-10)


def test_each_modality_has_its_own_gate():
    batch, _ = example()
    method = build()
    scores = method.predict(batch)
    for number, (_, _, p_audio, p_visual, _) in enumerate(spoken(method, batch)):
        np.testing.assert_allclose(scores.clip_audio[number].detach(), p_audio, atol=1e-10)
        np.testing.assert_allclose(scores.clip_visual[number].detach(), p_visual, atol=1e-10)


def test_noise_ratios_come_from_a_first_network_without_cross_attention():
    batch, targets = example()
    method, config = build(), build().config.first
    assert (config.denoise, config.cross_attention, config.audio_weight, config.first) == (False, False, 1.0, None)
    first = scatter(METHODS.get("jomold")(config, (2, 4), (7,), CLASSES, {"motion": (5,)})).eval()
    with torch.no_grad():
        for parameter in first.attention.cross.parameters():  # not used
            parameter.fill_(float("nan"))
        method.prepare(first, lambda: [(batch, targets)])
        inputs = first.inputs(batch)
        streams = first.front_end(inputs.visual, inputs.audio, inputs.motion)
        pooled = first.pooling(*first.attention(*streams, inputs.mask, cross=False), inputs.mask)
    cases = ((method.noise_audio, pooled.clip_audio, 1.0, 0.6), (method.noise_visual, pooled.clip_visual, 0.95, 1.8))
    for ratios, p, share, threshold in cases:
        for c in range(CLASSES):
            values = [p[i, c].item() * share / p[:, c].mean().item() < threshold for i in range(3) if targets.labels[i, c]]
            assert ratios[c].item() == pytest.approx(np.mean(values))
    with pytest.raises(TypeError, match="train on"):
        empty = torch.zeros(3, 5, CLASSES, dtype=torch.bool)
        method.prepare(first, lambda: [(batch, ParsingTargets(empty, empty, empty[:, 0]))])


def test_published_noise_ratios_are_read_and_need_no_first_network(tmp_path, shared):
    published = shared / "annotations" / "llp" / "noise_ratios.npz"
    method = create(
        "jomold", visual_shape=(8, 16), audio_shape=(8,), num_classes=25, motion=None, width=8, feedforward=8, noise_ratios=str(published)
    )
    assert method.config.first is None
    method.prepare(None, lambda: [])
    assert method.noise_visual[0].item() == pytest.approx(0.99398557)
    assert method.noise_audio[0].item() == pytest.approx(0.06455493)


@pytest.mark.parametrize("way", ["file", "buffers", "stored"])
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64, torch.bfloat16])
def test_noise_ratios_stay_float64_whatever_the_weights_are(tmp_path, way, dtype):
    """Ratio 8 of 164: 41 clips lose two labels and 82 clips four; in float32 they would lose one and three."""
    ratio = 8 / 164
    assert [int(np.float32(ratio) * np.float32(count)) for count in (41, 82)] == [1, 3]
    path = tmp_path / "ratios.npz"
    np.savez(path, audio=np.full(CLASSES, ratio), visual=np.full(CLASSES, ratio))
    method = build(noise_ratios=path)
    if way == "buffers":
        method.to(dtype)
    method.prepare(None, lambda: [])
    if way == "stored":  # as a checkpoint and as what is published
        save_file(method.kept_weights(), tmp_path / "kept.safetensors")
        method = build(noise_ratios=path).to(dtype)
        method.load_kept(load_file(tmp_path / "kept.safetensors"))
    method.to(dtype).to("cpu")
    assert next(method.parameters()).dtype == (dtype or torch.float64)
    for ratios in (method.noise_audio, method.noise_visual):
        assert ratios.dtype == torch.float64
        assert ratios.tolist() == [ratio] * CLASSES
        for count, removed in ((41, 2), (82, 4)):
            positive = torch.ones(count, CLASSES, dtype=torch.bool)
            terms = torch.arange(count, dtype=torch.float32)[:, None].expand(-1, CLASSES)
            assert absent_labels(-terms, terms, positive, ratios).sum(dim=0).tolist() == [removed] * CLASSES


@pytest.mark.parametrize(
    "content",
    [
        {"audio": np.zeros(3)},
        {"audio": np.zeros(2), "visual": np.zeros(3)},
        {"audio": np.full(3, 2.0), "visual": np.zeros(3)},
        {"audio": np.zeros(10**6), "visual": np.zeros(3)},
        b"none",
        b"PK\x03\x04 cut off",
    ],
)
def test_a_file_without_ratios_is_refused(tmp_path, content):
    path = tmp_path / "ratios.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(PipelineError, match=r"noise_ratios: .*ratios\.npz"):
        build(noise_ratios=path).prepare(None, lambda: [])


def test_parameters_as_the_released_network_uses():
    """4,571,723 as released, less two layer norms of 512 that no forward pass reaches."""
    method = create("jomold", visual_shape=(8, 2048), audio_shape=(128,), num_classes=25, other_shapes={"motion": (512,)})
    assert sum(weight.numel() for weight in method.parameters()) + 2 * 2 * 512 == 4_571_723


def test_a_small_file_that_unpacks_to_much_is_refused_before(tmp_path):
    path = tmp_path / "ratios.npz"
    np.savez_compressed(path, audio=np.zeros(10**6), visual=np.zeros(CLASSES))
    assert path.stat().st_size < 20_000
    with pytest.raises(PipelineError, match=r"noise_ratios: .*ratios\.npz: .*1048576 bytes"):
        build(noise_ratios=path).prepare(None, lambda: [])
