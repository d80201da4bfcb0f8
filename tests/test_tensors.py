"""A safetensors file carries the hash of its content."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.tensors import Damaged, load_or_discard, load_tensors, save_tensors
from tests.wording import says

TENSORS = {
    "whole": torch.arange(6.0).view(2, 3), "scalar": torch.tensor(3.0), "counter": torch.tensor(7),
    "half": torch.ones(3, dtype=torch.bfloat16), "flags": torch.tensor([True, False]), "none": torch.zeros(0, 2),
    "turned": torch.arange(6.0).view(2, 3).T,
}  # fmt: skip


def test_what_was_written_comes_back_and_others_read_it_too(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, {"seconds": "1.5"})
    tensors, facts = load_tensors(path)
    assert facts == {"seconds": "1.5"}
    assert tensors.keys() == TENSORS.keys() == load_file(path).keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)
    again = tmp_path / "b.safetensors"
    save_tensors(again, TENSORS, {"seconds": "1.5"})
    assert again.read_bytes() == path.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, again]


def test_files_of_others_have_no_hash_and_are_read(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert load_tensors(tmp_path / "a.safetensors")[0]["a"].tolist() == [1, 1]


def test_whichever_bit_flips_the_tensors_are_right_or_refused_with_the_place(tmp_path):
    path = tmp_path / "a.safetensors"
    given = {"weight": torch.arange(4.0), "bias": torch.ones(2)}
    save_tensors(path, given, {"seconds": "1.5"})
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        for bit in (place % 8, 7 - place % 8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                tensors, _ = load_tensors(path)
            except Damaged as error:
                refused += str(error).startswith(f"{path} is damaged: ")
            else:
                assert tensors.keys() == given.keys()
                assert all(torch.equal(tensors[name], value) for name, value in given.items())
    assert refused > 1.5 * len(whole)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_cut_file_is_refused_or_discarded_with_a_sentence(tmp_path, capsys, length):
    path = tmp_path / "a.safetensors"
    assert load_or_discard(path, "it is made again") is None
    assert not capsys.readouterr().err
    save_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Damaged, match=f"{path} is damaged"):
        load_tensors(path)
    assert load_or_discard(path, "it is made again") is None
    assert not path.exists()
    assert says(capsys.readouterr().err, f"{path} is damaged: ", "removed", "it is made again")
