import json

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.features.store import Entry, FeatureStore, write_store

SPEC = {"segments": 3, "dtype": "float16", "shapes": {"visual": [2, 2, 4], "audio": [5]}}


def entry(number: int) -> Entry:
    rng = np.random.default_rng(number)
    facts = {"clip": f"clip{number}", "status": "ok", "valid": [True, True, number % 2 == 0]}
    facts |= {"visual_valid": [True] * 3, "audio_valid": [True] * 3}
    facts |= {"visual_key": f"v{number}", "audio_key": f"a{number}"}
    features = {"visual": rng.random((3, 2, 2, 4)), "audio": rng.random((3, 5))}
    return Entry(facts, {modality: values.astype(np.float16) for modality, values in features.items()})


@pytest.mark.parametrize("shard_bytes", [1, 100, 200, 10**9])
def test_any_clips_in_any_order_come_back_whatever_the_shards(tmp_path, shard_bytes):
    entries = [entry(number) for number in range(5)]
    write_store(tmp_path, iter(entries), 5, SPEC, shard_bytes)
    store = FeatureStore(tmp_path)
    wanted = ["clip4", "clip0", "clip4", "clip2"]
    for modality in ("visual", "audio"):
        expected = np.stack([entries[int(clip[-1])].features[modality] for clip in wanted])
        read = store.read(modality, wanted)
        np.testing.assert_array_equal(read, expected)
        assert read.dtype == np.float16
    assert store.valid(["clip0", "clip1"]).tolist() == [[True, True, True], [True, True, False]]
    assert len(store) == 5
    assert "clip3" in store
    assert "clip9" not in store
    assert len(list(tmp_path.glob("visual-*.npy"))) == {1: 5, 100: 5, 200: 3, 10**9: 1}[shard_bytes]  # 96 bytes a clip


def test_the_same_entries_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_store(tmp_path / name, (entry(number) for number in range(3)), 3, SPEC)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["audio-000.npy", "index.parquet", "spec.json", "visual-000.npy"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_empty_store_is_a_store(tmp_path):
    write_store(tmp_path, iter(()), 0, SPEC)
    store = FeatureStore(tmp_path)
    assert len(store) == 0
    assert store.read("visual", []).shape == (0, 3, 2, 2, 4)
    assert store.valid([]).shape == (0, 3)


def test_a_directory_that_is_not_a_store_is_named(tmp_path):
    with pytest.raises(PipelineError, match="feature store"):
        FeatureStore(tmp_path)


@pytest.mark.parametrize("name", ["visual-000.npy", "audio-000.npy", "index.parquet", "spec.json"])
@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.98])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_file_is_refused_with_its_place(tmp_path, name, place, damage):
    write_store(tmp_path, (entry(number) for number in range(3)), 3, SPEC)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if damage == "cut":
        content = content[:at]
    else:
        content[at] ^= 0x80  # not ASCII any more, where it is text
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=rf"^{path} is damaged.*{tmp_path} .*`dvc repro`"):
        FeatureStore(tmp_path).read(name.partition("-")[0], ["clip1"])


def test_a_missing_shard_is_named(tmp_path):
    write_store(tmp_path, (entry(number) for number in range(3)), 3, SPEC)
    (tmp_path / "audio-000.npy").unlink()
    with pytest.raises(PipelineError, match=r"audio-000\.npy"):
        FeatureStore(tmp_path).read("audio", ["clip1"])


def test_a_store_of_an_earlier_version_has_no_checksums_and_is_read(tmp_path):
    write_store(tmp_path, (entry(number) for number in range(3)), 3, SPEC)
    assert FeatureStore(tmp_path).spec == SPEC
    (tmp_path / "spec.json").write_text(json.dumps(SPEC), encoding="utf-8")
    np.testing.assert_array_equal(FeatureStore(tmp_path).read("audio", ["clip1"])[0], entry(1).features["audio"])
