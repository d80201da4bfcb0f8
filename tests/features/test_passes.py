import copy
import functools

import pytest
import torch

from pipeline import encoders
from pipeline.errors import PipelineError
from pipeline.features.passes import CPU_PASS, Packer, PassEncoder

CPU = torch.device("cpu")
# One of each kind of network: depthwise and plain convolutions, the matrix products of a transformer, recurrence-free audio stacks.
KINDS = {
    "efficientnet_lite0": {"weights": "none", "image_size": 64, "resize": 64},
    "resnet50": {"weights": "none", "image_size": 64},
    "timm": {"weights": "none", "image_size": 64, "model": "vit_tiny_patch16_224"},
    "r2plus1d_18": {"weights": "none", "image_size": 32},
    "vggish": {"weights": "none"},
    "logmel": {},
}


def rows_for(encoder, count):
    generator = torch.Generator().manual_seed(count)
    if encoder.modality == "audio":
        return encoder.prepare(0.1 * torch.randn(count * 16000, generator=generator), 16000, count, 1.0)
    if encoder.name == "r2plus1d_18":
        return torch.randn(count, 3, 2, 32, 32, generator=generator)
    return torch.randn(count, 3, 64, 64, generator=generator)


def test_rows_are_packed_into_full_passes_in_order():
    packer = Packer(4)
    passes = []
    for owner, count in (("a", 3), ("b", 6), ("none", 0), ("c", 2)):
        passes += packer.add(owner, torch.full((count, 2), ord(owner[0])))
    passes += packer.rest()
    assert [each.shares for each in passes] == [[("a", 3), ("b", 1)], [("b", 4)], [("b", 1), ("c", 2)]]
    assert [torch.cat(each.pieces)[:, 0].tolist() for each in passes] == [[97, 97, 97, 98], [98] * 4, [98, 99, 99]]
    assert list(packer.rest()) == []


@pytest.fixture(scope="module")
def created():
    """An encoder of each kind by name, made once: drawing random weights takes longer than using them."""
    return functools.cache(lambda name: encoders.create(name, **KINDS[name]))


@pytest.mark.parametrize(("precision", "size"), [("float32", CPU_PASS), ("bfloat16", 2)])  # slow without AVX-512
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.fault(27, 34)
def test_a_rows_bytes_do_not_depend_on_its_place_or_neighbours(name, precision, size, created):
    encoder = created(name)
    encode = PassEncoder(encoder, CPU, precision, size)
    rows = rows_for(encoder, size)
    together = encode(rows)
    assert together.dtype == torch.float32
    assert not torch.equal(together[0], together[1])
    for place in range(size):
        assert torch.equal(encode(rows[place : place + 1])[0], together[place]), "alone, the pass filled up"
    order = torch.cat([torch.arange(size).flip(0), torch.arange(size).roll(1), torch.tensor([0, 0])])  # several places and neighbours
    assert torch.equal(encode(rows[order]), together[order])


@pytest.mark.parametrize("name", [name for name in KINDS if encoders.ENCODERS.get(name).modality == "visual"])
def test_channels_last_and_freezing_change_nothing_but_the_speed(name, created):
    encoder = copy.deepcopy(created(name)).to(memory_format=torch.contiguous_format)
    for module in encoder.modules():  # like trained batch norms: folding one with mean 0 and variance 1 would prove little
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    rows = rows_for(encoder, 4)
    with torch.inference_mode():
        plain = encoder.encode(rows)
    encode = PassEncoder(encoder, CPU, "float32", 4)
    for chunk in (4, 3, 1):  # the last pass is filled up
        close = {"rtol": 1e-4, "atol": 1e-5 * float(plain.abs().max())}
        torch.testing.assert_close(encode(rows[:chunk]), plain[:chunk], **close)


def test_a_network_that_cannot_be_traced_runs_unfrozen(monkeypatch, created):
    encoder = created("resnet50")
    monkeypatch.setattr(encoder, "feature_map", lambda batch: torch.full((len(batch), 8, 1, 1), float(batch.numpy().max())))
    rows = rows_for(encoder, 4)
    assert PassEncoder(encoder, CPU, "float32", 4)(rows).unique().item() == rows.max()


def test_on_a_cpu_a_pass_is_small():
    encoder = encoders.create("logmel")
    assert PassEncoder(encoder, CPU, "float32", 64).size == CPU_PASS
    assert PassEncoder(encoder, CPU, "float32", 3).size == 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 TB")])
@pytest.mark.fault(27)
def test_a_row_that_never_fits_is_an_error_that_says_what_to_do(monkeypatch, error):
    encoder = encoders.create("logmel")

    def never(batch):
        raise error

    monkeypatch.setattr(encoder, "encode", never)
    with pytest.raises(PipelineError, match=r"logmel: .*memory.*cpu.*image_size"):
        PassEncoder(encoder, CPU, "float32", 8)(torch.zeros(8, 96, 64))


@pytest.mark.fault(27)
def test_other_errors_are_not_mistaken_for_running_out_of_memory(monkeypatch):
    encoder = encoders.create("logmel")

    def wrong(batch):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(encoder, "encode", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        PassEncoder(encoder, CPU, "float32", 8)(torch.zeros(8, 96, 64))
