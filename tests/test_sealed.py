"""Records read back from disk: a damaged file is named, be it a changed digit or a cut file."""

import json

import pytest

from pipeline.errors import PipelineError
from pipeline.sealed import read_sealed, unsealed, write_sealed

CONTENT = {"seeds": {10: 81.5, 9: [0.1 + 0.2, 1e-300]}, "word": "Glöckchen", "nothing": None, "pair": (1, 2)}
READ = {"seeds": {"10": 81.5, "9": [0.1 + 0.2, 1e-300]}, "word": "Glöckchen", "nothing": None, "pair": [1, 2]}


@pytest.mark.parametrize("sort_keys", [False, True])
def test_a_record_comes_back_without_its_hash(tmp_path, sort_keys):
    write_sealed(tmp_path / "a.json", CONTENT, sort_keys)
    assert read_sealed(tmp_path / "a.json") == READ
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert len(written.pop("sha256")) == 64
    assert written == READ


def test_every_flipped_bit_that_changes_the_record_is_found(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    whole, found = path.read_bytes(), 0
    for place in range(8 * whole.index(b'"sha256"')):
        path.write_bytes(bytes([*whole[: place // 8], whole[place // 8] ^ 1 << place % 8, *whole[place // 8 + 1 :]]))
        try:
            content = read_sealed(path)
        except PipelineError:
            found += 1
        else:
            assert content == READ  # white space of another kind
    assert found > 6 * whole.index(b'"sha256"')


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"seeds": {"10": 81', "\x00" * 40])
def test_what_is_no_record_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(PipelineError, match=r"a\.json is damaged"):
        read_sealed(tmp_path / "a.json")


def test_a_record_that_is_gone_is_named_and_one_without_a_hash_is_taken(tmp_path):
    with pytest.raises(PipelineError, match=r"a\.json"):
        read_sealed(tmp_path / "a.json")
    assert unsealed('{"a": 1}') == {"a": 1}
