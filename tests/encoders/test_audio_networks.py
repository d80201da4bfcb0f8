"""YAMNet, VGGish and Cnn14: layers, order of axes, post-processing."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from pipeline.encoders import create
from pipeline.encoders.cnn14 import Cnn14Network
from pipeline.encoders.logmel import LogMel, LogMelConfig
from pipeline.encoders.vggish import VggishConfig, VggishNetwork, to_eight_bits, whiten
from pipeline.encoders.weights import load_layers
from pipeline.encoders.yamnet import YamnetNetwork
from pipeline.errors import PipelineError


@pytest.fixture(scope="module")
def vggish_file(tmp_path_factory):
    """A file with torchvggish's layer names whose features are far from zero."""
    torch.manual_seed(1)
    network = VggishNetwork()
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    path = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
    save_file(network.state_dict(), path)
    return str(path)


@pytest.fixture
def vggish(vggish_file, monkeypatch):
    """Makes encoders of that file; the 72 million numbers that it replaces are not drawn first."""

    def make(**settings):
        with monkeypatch.context() as patch:
            for name in ("kaiming_uniform_", "uniform_"):
                patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
            return create("vggish", weights=vggish_file, **settings)

    return make


def noise(seconds: int) -> torch.Tensor:
    return torch.randn(seconds * 16_000, generator=torch.Generator().manual_seed(0)) * 0.1


def test_logmel_statistics_by_hand():
    encoder = LogMel(LogMelConfig())
    frames = torch.stack([torch.full((64,), 1.0), torch.full((64,), 3.0)])[None]
    assert encoder.encode(frames).tolist() == [[2.0] * 64 + [1.0] * 64]
    assert encoder.prepare(noise(2), 16_000, 2, 1.0).shape == (2, 98, 64)


def test_vggish_has_torchvggishs_layers():
    with torch.device("meta"):
        state = VggishNetwork().state_dict()
    names = [f"features.{i}.{part}" for i in (0, 3, 6, 8, 11, 13) for part in ("weight", "bias")]
    names += [f"embeddings.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")]
    assert list(state) == names
    assert state["features.13.weight"].shape == (512, 512, 3, 3)
    assert state["embeddings.0.weight"].shape == (4096, 12_288)
    assert sum(value.numel() for value in state.values()) == 72_141_184  # the published 72.1 M


def test_vggish_flattens_with_the_channels_last(vggish):
    """Unit i of the flattened map is (row, column, channel) = unravel(i, (6, 4, 512)), as TensorFlow has it."""
    network = vggish().network
    patches = torch.randn(1, 96, 64)
    seen = []
    network.embeddings[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network(patches)
        maps = network.features(patches[:, None])[0]
    assert maps.shape == (512, 6, 4)
    for unit in (0, 1, 511, 512, 2047, 2048, 12_287):
        row, column, channel = np.unravel_index(unit, (6, 4, 512))
        assert seen[0][0, unit] == maps[channel, row, column]


def test_vggish_final_relu(vggish):
    raw, rectified = (vggish(final_relu=relu) for relu in (False, True))
    batch = raw.prepare(noise(4), 16_000, 4, 1.0)
    with torch.inference_mode():
        signed, positive = raw.encode(batch), rectified.encode(batch)
    assert float(signed.min()) < 0
    assert torch.equal(positive, signed.relu())


def test_vggish_postprocessing_of_the_published_kind(vggish, tmp_path):
    generator = np.random.default_rng(0)
    matrix, means = generator.standard_normal((128, 128)) * 0.1, generator.standard_normal(128)
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=matrix, pca_means=means)
    common = {"final_relu": False, "pca_params": str(tmp_path / "pca.npz")}
    steps = ({}, {"pca": True}, {"pca": True, "quantize": True})
    raw, whitened, quantized = (vggish(**common, **step) for step in steps)
    batch = raw.prepare(noise(3), 16_000, 3, 1.0)
    with torch.inference_mode():
        x, y, z = (encoder.encode(batch).numpy() for encoder in (raw, whitened, quantized))
    expected = np.stack([np.clip(matrix @ (row.astype(np.float64) - means), -2, 2) for row in x])
    assert expected.std() > 0.3
    np.testing.assert_allclose(y, expected, atol=1e-4)
    np.testing.assert_array_equal(z, ((y + 2) * (255 / 4)).astype(np.uint8))
    assert raw.spec() != whitened.spec() != quantized.spec()


def test_eight_bits_are_truncated_and_reach_both_ends():
    assert to_eight_bits(torch.tensor([-2.0, -2 + 1.99 * 4 / 255, 0.0, 2.0])).tolist() == [0, 1, 127, 255]
    assert whiten(torch.tensor([[9.0, -9.0]]), torch.eye(2), torch.zeros(2)).tolist() == [[2, -2]]


def test_the_published_pca_file_loads(vggish, shared):
    encoder = vggish(pca=True, quantize=True, pca_params=str(shared / "weights/vggish_pca_params.npz"))
    with torch.inference_mode():
        out = encoder.encode(encoder.prepare(noise(2), 16_000, 2, 1.0))
    assert torch.equal(out, out.round())
    assert 0 <= float(out.min()) < float(out.max()) <= 255


def test_vggish_settings_that_make_no_sense(vggish, tmp_path):
    with pytest.raises(ValueError, match=r"quantize.*pca"):
        VggishConfig(quantize=True)
    with pytest.raises(ValueError, match="hop"):
        VggishConfig(hop=0.5)
    for content in (b"", b"no npz"):
        (tmp_path / "pca.npz").write_bytes(content)
        with pytest.raises(PipelineError, match="VGGish PCA"):
            vggish(pca=True, pca_params=str(tmp_path / "pca.npz"))
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=np.eye(3), pca_means=np.zeros(3))
    with pytest.raises(PipelineError, match=r"\(128, 128\)"):
        vggish(pca=True, pca_params=str(tmp_path / "pca.npz"))


def test_vggish_hops(vggish):
    published, aligned = (vggish(hop=hop) for hop in (0.96, 1.0))
    wave = noise(10)
    torch.testing.assert_close(published.prepare(wave, 16_000, 10, 1.0)[0], aligned.prepare(wave, 16_000, 10, 1.0)[0])
    assert not torch.allclose(published.prepare(wave, 16_000, 10, 1.0)[9], aligned.prepare(wave, 16_000, 10, 1.0)[9])
    assert aligned.prepare(wave, 16_000, 30, 0.32).shape == (30, 1, 96, 64)
    with pytest.raises(PipelineError, match=r"hop: 1\.0"):
        published.prepare(wave, 16_000, 30, 0.32)


def test_yamnet_equals_a_plain_rewriting():
    """Valid convolutions on maps padded by hand: one row and column at the end where the stride is 2, all around where it is 1."""
    torch.manual_seed(0)
    network = YamnetNetwork().eval()
    state, maps = network.state_dict(), torch.randn(2, 1, 96, 64)

    def step(maps, name, stride, groups):
        around = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
        return functional.conv2d(functional.pad(maps, around), state[f"{name}.weight"], state[f"{name}.bias"], stride, groups=groups).relu()

    with torch.inference_mode():
        ours = network(maps[:, 0])
        maps = step(maps, "conv", 2, 1)
        for index, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)):
            maps = step(maps, f"blocks.{index}.depthwise", stride, maps.shape[1])
            maps = functional.conv2d(maps, state[f"blocks.{index}.pointwise.weight"], state[f"blocks.{index}.pointwise.bias"]).relu()
    assert maps.shape == (2, 1024, 3, 2)
    torch.testing.assert_close(ours, maps.mean(dim=(2, 3)))


def test_yamnet_s_scores_are_its_classifier_s_and_its_embedding_keeps_its_spec():
    """The spec is part of cache keys, which the choice of a layer must not have changed."""
    embedding, scores = create("yamnet", weights="none"), create("yamnet", weights="none", layer="scores")
    batch = torch.randn(3, 2, 96, 64)
    with torch.inference_mode():
        expected = torch.sigmoid(embedding.network.classifier(embedding.network(batch.flatten(0, 1)))).unflatten(0, (3, 2)).mean(dim=1)
        torch.testing.assert_close(scores.encode(batch), expected)
    assert scores.output_shape == (521,)
    assert embedding.spec()["settings"] == {}


def test_yamnet_averages_the_patches_of_a_long_segment():
    encoder = create("yamnet", weights="none")
    batch = encoder.prepare(noise(6), 16_000, 2, 3.0)
    assert batch.shape == (2, 3, 96, 64)
    with torch.inference_mode():
        parts = torch.stack([encoder.encode(batch[:, i : i + 1]) for i in range(3)])
        torch.testing.assert_close(encoder.encode(batch), parts.mean(dim=0))


def published_cnn14_layout() -> dict[str, tuple[int, ...]]:
    """Layer -> shape of Cnn14_mAP=0.431.pth, spelled out from the paper's architecture and the released layer names."""

    def norm(name: str, width: int) -> dict:
        vectors = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
        return vectors | {f"{name}.num_batches_tracked": ()}

    layout: dict[str, tuple[int, ...]] = {
        "spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024),
        "spectrogram_extractor.stft.conv_imag.weight": (513, 1, 1024),
        "logmel_extractor.melW": (513, 64),
        **norm("bn0", 64),
    }
    width = 1
    for block, out in enumerate((64, 128, 256, 512, 1024, 2048), start=1):
        layout |= {f"conv_block{block}.conv1.weight": (out, width, 3, 3), f"conv_block{block}.conv2.weight": (out, out, 3, 3)}
        layout |= norm(f"conv_block{block}.bn1", out) | norm(f"conv_block{block}.bn2", out)
        width = out
    return layout | {"fc1.weight": (2048, 2048), "fc1.bias": (2048,), "fc_audioset.weight": (527, 2048), "fc_audioset.bias": (527,)}


def test_the_published_cnn14_file_would_load():
    with torch.device("meta"):
        network = Cnn14Network()
        state = {name: torch.empty(shape) for name, shape in published_cnn14_layout().items()}
    load_layers(network, state, "Cnn14", ignore=("spectrogram_extractor.", "logmel_extractor."))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    front_end = 2 * 513 * 1024 + 513 * 64  # counted with the published 81.8 M
    assert round((parameters + front_end) / 1e6, 1) == 81.8


@pytest.fixture(scope="module")
def cnn14():
    return create("cnn14", weights="none")


def test_cnn14_equals_a_plain_rewriting(cnn14):
    network = cnn14.network
    state = network.state_dict()
    frames = cnn14.prepare(noise(1), 16_000, 1, 1.0) + 30

    def norm(maps, name):
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
        shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
        return maps * scale[None, :, None, None] + shift[None, :, None, None]

    with torch.inference_mode():
        ours = network(frames)
        maps = norm(frames[:, :, :, None].transpose(1, 2), "bn0").permute(0, 3, 2, 1)  # (1, 1, F, 64)
        for block in range(1, 7):
            for part in (1, 2):
                maps = functional.conv2d(maps, state[f"conv_block{block}.conv{part}.weight"], padding=1)
                maps = norm(maps, f"conv_block{block}.bn{part}").relu()
            if block < 6:
                maps = functional.avg_pool2d(maps, 2)
        assert maps.shape == (1, 2048, 3, 2)
        over_time = maps.mean(dim=-1)
        pooled = over_time.max(dim=-1).values + over_time.mean(dim=-1)
        expected = (pooled @ state["fc1.weight"].T + state["fc1.bias"]).clamp(min=0)
    assert float(expected.max()) > 0
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.fault(10)
def test_cnn14_takes_segments_under_its_shortest_input(cnn14):
    batch = cnn14.prepare(noise(1), 16_000, 5, 0.1)
    with torch.inference_mode():
        assert cnn14.encode(batch[:1]).shape == (1, 2048)


def test_cnn14_segments_are_independent(cnn14):
    """Ten inputs of one second, not ten cuts of one spectrogram: a segment equals the same second as a clip of its own."""
    wave = torch.randn(96_000, generator=torch.Generator().manual_seed(2)) * 0.1
    torch.testing.assert_close(cnn14.prepare(wave, 32_000, 3, 1.0)[1], cnn14.prepare(wave[32_000:64_000], 32_000, 1, 1.0)[0])


def test_cnn14_equals_the_panns_package(cnn14, monkeypatch, tmp_path):
    """Its import would shell out to wget for a list of labels in the home directory, so the home here has one."""
    if importlib.util.find_spec("panns_inference") is None:
        pytest.skip("panns_inference is not installed (it is in the extra `test`)")
    import os

    labels = tmp_path / "panns_data" / "class_labels_indices.csv"
    labels.parent.mkdir()
    labels.write_text(
        "index,mid,display_name\n" + "".join(f'{number},/m/{number},"class {number}"\n' for number in range(527)), encoding="utf-8"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"the import runs {command!r}"))
    from panns_inference.models import Cnn14 as Published

    published = Published(32_000, 1024, 320, 64, 50, 14_000, 527).eval()
    load_layers(published, {**published.state_dict(), **cnn14.network.state_dict()}, "ours")
    wave = torch.randn(32_000, generator=torch.Generator().manual_seed(3)) * 0.1
    with torch.inference_mode():
        expected = published(wave[None])["embedding"]
        torch.testing.assert_close(cnn14.encode(cnn14.prepare(wave, 32_000, 1, 1.0)), expected, rtol=1e-3, atol=1e-4)
