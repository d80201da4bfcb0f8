"""The image networks: shapes, layer names, and that packaged weights land in their own layers."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision import models

from pipeline.encoders import create
from pipeline.encoders.known_weights import KNOWN
from pipeline.encoders.timm_models import rename_by_position
from pipeline.encoders.weights import find, load_layers, read_state
from pipeline.errors import PipelineError
from pipeline.registry import UnknownName


@pytest.fixture(scope="module")
def samples() -> torch.Tensor:
    """Two photographs that scikit-learn (which librosa brings) ships: a Chinese temple, a dahlia."""
    datasets = pytest.importorskip("sklearn.datasets")
    return torch.from_numpy(np.stack([datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]))


@pytest.mark.parametrize(("settings", "shape"), [({}, (7, 7, 2048)), ({"image_size": 65}, (3, 3, 2048)), ({"pool": "average"}, (2048,))])
def test_resnet50_shapes(settings, shape):
    encoder = create("resnet50", weights="none", **settings)
    assert encoder.output_shape == shape
    with torch.inference_mode():
        assert encoder.encode(encoder.prepare(torch.zeros(1, 20, 30, 3, dtype=torch.uint8))).shape[1:] == shape


def test_resnet50_is_torchvisions_up_to_the_pooling():
    encoder = create("resnet50", weights="none", image_size=64)
    whole = models.resnet50(weights=None).eval()
    whole.load_state_dict({**whole.state_dict(), **encoder.network.state_dict()})
    nn.init.eye_(whole.fc.weight)  # lets the first 1000 of the pooled channels through
    nn.init.zeros_(whole.fc.bias)
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        pooled = encoder.encode(batch).mean(dim=(1, 2))
        torch.testing.assert_close(pooled[:, :1000], whole(batch), rtol=1e-4, atol=1e-4)


def test_published_files_of_torchvision_would_load():
    """Every layer of torchvision's own networks, classifiers included, is either wanted or ignored on purpose."""
    with torch.device("meta"):
        resnet = {name: torch.empty(value.shape) for name, value in models.resnet50(weights=None).state_dict().items()}
        vgg = {name: torch.empty(value.shape) for name, value in models.vgg19(weights=None).state_dict().items()}
        resnet152 = {name: torch.empty(value.shape) for name, value in models.resnet152(weights=None).state_dict().items()}
        video = {name: torch.empty(value.shape) for name, value in models.video.r2plus1d_18(weights=None).state_dict().items()}
        ours = {name: create(name, weights="none") for name in ("resnet152", "r2plus1d_18")}
    resnet50, vgg19 = create("resnet50", weights="none"), create("vgg19", weights="none")
    load_layers(ours["resnet152"].network, resnet152, "resnet152", ignore=("fc.",))
    load_layers(ours["r2plus1d_18"].network, video, "r2plus1d_18", ignore=("fc.",))
    load_layers(resnet50.network.to("meta"), resnet, "resnet50", ignore=("fc.",))
    load_layers(vgg19.network.to("meta"), vgg, "vgg19", ignore=("classifier.",))


def test_resnet152_has_the_form_of_llps_features():
    """Ten segments of eight frames -> (80, 2048), each the mean of the last map: torchvision's own pooling."""
    encoder = create("resnet152", weights="none", image_size=64)
    assert encoder.output_shape == (2048,)
    assert encoder.frames == "keep"
    reference = models.resnet152(weights=None).eval()
    reference.fc = nn.Identity()
    reference.load_state_dict(encoder.network.state_dict())
    rows = encoder.prepare(torch.randint(0, 256, (80, 40, 50, 3), dtype=torch.uint8), 8)
    assert rows.shape == (80, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode(rows[:3]), reference(rows[:3]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("settings", "shape"), [({}, (7, 7, 512)), ({"image_size": 95}, (2, 2, 512)), ({"pool": "average"}, (512,))])
def test_vgg19_shapes(settings, shape):
    encoder = create("vgg19", weights="none", **settings)
    assert encoder.output_shape == shape
    if not settings or encoder.config.image_size < 224:
        with torch.inference_mode():
            out = encoder.encode(encoder.prepare(torch.zeros(1, 20, 30, 3, dtype=torch.uint8)))
        assert out.shape[1:] == shape
        assert float(out.min()) >= 0  # after ReLU and pooling: pool5


def test_the_map_keeps_its_orientation():
    """A mark in the upper right of the picture shows in the upper right of the map: (h, w, D), not (w, h, D)."""
    encoder = create("efficientnet_lite0")
    plain = torch.full((1, 224, 224, 3), 120, dtype=torch.uint8)
    marked = plain.clone()
    marked[:, 20:60, 150:200] = torch.randint(0, 256, (1, 40, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        change = (encoder.encode(encoder.prepare(marked)) - encoder.encode(encoder.prepare(plain))).abs().sum(-1)[0]
    row, column = divmod(int(change.argmax()), 7)
    assert row <= 2
    assert column >= 4


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, (7, 7, 320)),
        ({"layer": "head"}, (7, 7, 1280)),
        ({"pool": "average"}, (320,)),
        ({"image_size": 130}, (5, 5, 320)),
    ],
)
def test_efficientnet_lite0_shapes(settings, shape):
    encoder = create("efficientnet_lite0", **settings)
    assert encoder.output_shape == shape
    with torch.inference_mode():
        assert encoder.encode(encoder.prepare(torch.zeros(1, 20, 30, 3, dtype=torch.uint8))).shape[1:] == shape


def test_packaged_efficientnet_lite0_lines_up_layer_by_layer():
    state = {name: value for name, value in read_state(find(KNOWN["efficientnet_lite0"])).items() if "num_batches" not in name}
    assert len(state) == 247
    network = create("efficientnet_lite0").network
    loaded = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    for (theirs, given), (ours, value) in zip(state.items(), loaded.items(), strict=True):
        assert theirs.rsplit(".", 1)[1] == ours.rsplit(".", 1)[1], (theirs, ours)  # weight on weight, running_var on running_var
        assert torch.equal(given, value)
    variances = torch.cat([value for name, value in loaded.items() if name.endswith("running_var")])
    assert float(variances.min()) >= 0
    assert float((variances == 0).float().mean()) < 0.01  # the file has some dead channels


def test_packaged_efficientnet_lite0_recognises_photographs(samples):
    encoder = create("efficientnet_lite0")
    with torch.inference_mode():
        scores = encoder.class_scores(encoder.prepare(samples))
    assert scores.argmax(dim=1).tolist() == [698, 985]  # palace; daisy, the only such flower of ImageNet
    assert float(scores.max(dim=1).values.min()) > 0.2


def test_packaged_efficientnet_lite0_activations_are_as_its_batch_norms_expect(samples):
    """Each batch norm's stored variances agree with those of a photograph; shuffled among layers of a shape they would not."""
    encoder = create("efficientnet_lite0")
    agreements: list[float] = []

    def compare(norm: nn.BatchNorm2d, inputs, _) -> None:
        measured = inputs[0].transpose(0, 1).flatten(1).var(dim=1)
        stored = norm.running_var
        agreements.append(float(torch.corrcoef(torch.stack([measured, stored]).add(1e-6).log())[0, 1]))

    for layer in encoder.network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(compare)
    with torch.inference_mode():
        encoder.encode(encoder.prepare(samples))
    assert len(agreements) == 48  # all but the head's
    assert np.median(agreements) > 0.8
    assert min(agreements) > 0.2


def test_a_file_in_another_order_is_refused_by_name():
    state = dict(reversed(read_state(find(KNOWN["efficientnet_lite0"])).items()))
    network = create("efficientnet_lite0").network
    with pytest.raises(PipelineError, match=r"conv_stem\.weight .*missing"):
        load_layers(network, rename_by_position(state, network), "reversed")


@pytest.mark.parametrize("model", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"])
def test_timm_gives_what_features_only_gives_last(model):
    size = 96
    encoder = create("timm", model=model, weights="none", image_size=size)
    options = {"img_size": size} if model.startswith("vit") else {}
    reference = timm.create_model(model, pretrained=False, features_only=True, **options).eval()
    ours = list(encoder.network.state_dict().values())
    theirs = reference.state_dict()  # same layers in the same order, under other names, the last few of ours missing
    pairs = dict(zip(theirs, ours, strict=False))
    assert len(pairs) == len(theirs)
    reference.load_state_dict(pairs)
    batch = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = reference(batch)[-1]
        out = encoder.encode(batch)
    if expected.shape[1] != out.shape[-1]:
        expected = expected.permute(0, 3, 1, 2)
    torch.testing.assert_close(out.permute(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-4)
    assert out.shape[1:] == encoder.output_shape


def test_timm_loads_a_file_with_its_classifier(tmp_path):
    from safetensors.torch import save_file

    whole = timm.create_model("convnext_atto", pretrained=False)
    save_file(whole.state_dict(), tmp_path / "convnext_atto.safetensors")
    encoder = create("timm", model="convnext_atto", weights=str(tmp_path / "convnext_atto.safetensors"), image_size=64)
    assert torch.equal(encoder.network.stem[0].weight, whole.stem[0].weight)


def test_timm_models_that_cannot_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match=r"resnet500.*resnet50\b"):
        create("timm", model="resnet500", weights="none")
    with pytest.raises(PipelineError, match=r"models/pretrained/resnet18\.safetensors"):
        create("timm", model="resnet18")
    with pytest.raises(PipelineError, match=r"inception_v3.*64 x 64"):
        create("timm", model="inception_v3", weights="none", image_size=64)
