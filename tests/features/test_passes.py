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
    "r2plus1d_18": {"weights": "none", "image_size": 48},
    "vggish": {"weights": "none"},
    "logmel": {},
}


def rows_for(encoder, count):
    generator = torch.Generator().manual_seed(count)
    if encoder.modality == "audio":
        return encoder.prepare(0.1 * torch.randn(count * 16000, generator=generator), 16000, count, 1.0)
    if encoder.name == "r2plus1d_18":
        return torch.randn(count, 3, 2, 48, 48, generator=generator)
    return torch.randn(count, 3, 64, 64, generator=generator)


def test_rows_are_packed_into_full_passes_in_order():
    packer = Packer(4)
    passes = []
    for owner, count in (("a", 3), ("b", 6), ("none", 0), ("c", 2)):
        passes += packer.add(owner, torch.full((count, 2), ord(owner[0])))
    passes += packer.rest()
    assert [each.shares for each in passes] == [[("a", 3), ("b", 1)], [("b", 4)], [("b", 1), ("c", 2)]]
    assert [each.rows[:, 0].tolist() for each in passes] == [[97, 97, 97, 98], [98] * 4, [98, 99, 99]]
    assert list(packer.rest()) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", KINDS)
def test_a_rows_bytes_depend_neither_on_its_place_nor_on_its_neighbours(name, precision):
    encoder = encoders.create(name, **KINDS[name])
    encode = PassEncoder(encoder, CPU, precision, 5)
    size = encode.size
    rows = rows_for(encoder, size)
    together = encode(rows)
    assert together.dtype == torch.float32
    assert not torch.equal(together[0], together[1])
    for place in range(size):
        assert torch.equal(encode(rows[place : place + 1])[0], together[place]), "alone, the pass filled up"
    order = torch.tensor([3, 0, 2, 2, 1, 0, 1, 3, 2, 1])
    assert torch.equal(encode(rows[order]), together[order])


def test_channels_last_changes_nothing_but_the_speed():
    encoder = encoders.create("resnet50", weights="none", image_size=64)
    rows = rows_for(encoder, 4)
    with torch.inference_mode():
        plain = encoder.encode(rows)
    torch.testing.assert_close(PassEncoder(encoder, CPU, "float32", 4)(rows), plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


def test_on_a_cpu_a_pass_is_small():
    encoder = encoders.create("logmel")
    assert PassEncoder(encoder, CPU, "float32", 64).size == CPU_PASS
    assert PassEncoder(encoder, CPU, "float32", 3).size == 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 TB")])
def test_a_row_that_never_fits_is_an_error_that_says_what_to_do(monkeypatch, error):
    encoder = encoders.create("logmel")

    def never(batch):
        raise error

    monkeypatch.setattr(encoder, "encode", never)
    with pytest.raises(PipelineError, match=r"logmel: not even one row.*memory of cpu.*image_size"):
        PassEncoder(encoder, CPU, "float32", 8)(torch.zeros(8, 96, 64))


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    encoder = encoders.create("logmel")

    def wrong(batch):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(encoder, "encode", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        PassEncoder(encoder, CPU, "float32", 8)(torch.zeros(8, 96, 64))
