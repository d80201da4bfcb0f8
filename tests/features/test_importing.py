"""Published features are imported to the last bit, and all their faults are reported at once."""

import json
import os
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pandas as pd
import pytest

from pipeline.datasets import DatasetSettings
from pipeline.datasets.arrays import read_array
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.importing import Import, ImportSet
from pipeline.features.importing import importer as importer_module
from pipeline.features.store import FeatureStore
from tests.wording import each_says, one_says, says

ROWS, NEGATIVES, T = 7, 3, 4
DATASET = DatasetSettings(kind="ave", clips="data/none", annotations="x", segments=T, segment_seconds=1.0, negatives=NEGATIVES)
CLIPS = ["a", "b", "a", "c", "d", "e", "f"]  # a has two rows
NOISY = {"visual": "visual_feature_noisy.h5", "audio": "audio_feature_noisy.h5"}


def index(clips=CLIPS, negatives=NEGATIVES, seconds=None):
    names = [*clips, *(f"negative-{number:03d}" for number in range(negatives))]
    splits = ["train"] * len(clips) + ["negative"] * negatives
    return pd.DataFrame({"row": range(len(names)), "clip": names, "split": splits, "seconds": [seconds] * len(names)}).astype(
        {"seconds": float}
    )


def write_h5(path, values, key="avadataset", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=values, **options)


def random(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).random(shape).astype(dtype) + 0.5


@pytest.fixture
def published(tmp_path):
    """Small files in AVE's layout: (directory, their numbers by stream, negatives after the rows)."""
    root = tmp_path / "published"
    whole = {"visual": random(0, ROWS + NEGATIVES, T, 2, 2, 3), "audio": random(1, ROWS + NEGATIVES, T, 5)}
    for name, values in whole.items():
        write_h5(root / f"{name}_feature.h5", values[:ROWS])
        write_h5(root / NOISY[name], values[ROWS:])
    return root, whole


def settings(root, negatives=True, **changes):
    sources = {"visual": {"file": "visual_feature.h5", "shape": [2, 2, 3]}, "audio": {"file": "audio_feature.h5", "shape": [5]}}
    for name, source in sources.items():
        source |= {"negatives": NOISY[name]} if negatives else {}
    return ImportSet.model_validate({"directory": root, **sources, **changes})


def run(chosen, rows, directory, **options):
    importing = Import(chosen, DATASET, rows, **options)
    importing.check()
    directory.mkdir(exist_ok=True)
    return importing.run(directory), FeatureStore(directory)


def problems(chosen, rows, directory):
    with pytest.raises(InputProblems) as caught:
        run(chosen, rows, directory)
    return caught.value.problems


@pytest.mark.parametrize("shard_bytes", [1, 200, 10**9])
def test_every_row_comes_back_with_its_own_features_and_the_negatives_after_them(tmp_path, published, shard_bytes):
    root, whole = published
    summary, store = run(settings(root), index(), tmp_path / "store", shard_bytes=shard_bytes)
    entries = store.entries(index().iloc[::-1])
    assert entries.tolist() == list(range(ROWS + NEGATIVES))[::-1]
    for name, values in whole.items():
        np.testing.assert_array_equal(store.read_entries(name, entries), values[::-1].astype(np.float32))
    assert store.shapes == {"visual": (2, 2, 3), "audio": (5,)}
    assert store.read("audio", ["a"])[0].tolist() == whole["audio"][0].astype(np.float32).tolist()  # a clip's first row
    assert store.valid_entries(entries).all()
    assert one_says(summary.splitlines(), "different visual features", "1 (a)")
    assert sorted(path.suffix for path in (tmp_path / "store").iterdir() if path.suffix != ".npy") == [".json", ".parquet"]


def test_files_of_made_up_numbers_mark_the_store(tmp_path, published):
    root, _ = published
    run(settings(root), index(), tmp_path / "real")
    assert "made_by" not in json.loads((tmp_path / "real/spec.json").read_text(encoding="utf-8"))
    with h5py.File(root / NOISY["audio"], "a") as file:
        file.attrs["made_by"] = "python -m pipeline make-features"
    run(settings(root), index(), tmp_path / "made")
    assert json.loads((tmp_path / "made/spec.json").read_text(encoding="utf-8"))["made_by"] == "python -m pipeline make-features"


def test_without_negatives_only_the_annotated_rows_are_there(tmp_path, published):
    root, _ = published
    _, store = run(settings(root, negatives=False), index(), tmp_path / "store")
    assert store.entries(index()).tolist() == [*range(ROWS), *[-1] * NEGATIVES]


@pytest.mark.parametrize("form", ["chunked", "compressed", "big-endian", "float16", "dataset", "other", "npy", "joined"])
def test_every_way_of_storing_the_same_numbers_gives_the_same_store(tmp_path, form):
    values = {"visual": random(2, ROWS, T, 2, 2, 3, dtype=np.float16), "audio": random(3, ROWS, T, 5, dtype=np.float16)}
    for name, array in values.items():
        path = tmp_path / "published" / f"{name}_feature.h5"
        if form == "npy":
            path.parent.mkdir(exist_ok=True)
            np.save(path.with_suffix(".npy"), array.astype(np.float64))
        elif form == "joined":
            write_h5(path, array.reshape(ROWS, T * 2, 2, 3) if name == "visual" else array)
        else:
            options = {"chunked": {"chunks": True}, "compressed": {"compression": "gzip"}}.get(form, {})
            dtype = {"float16": "f2", "big-endian": ">f8"}.get(form, "f8")
            write_h5(path, array.astype(dtype), {"dataset": "dataset", "other": "features"}.get(form, "avadataset"), **options)
    suffix = "npy" if form == "npy" else "h5"
    sources = {
        "visual": {"file": f"visual_feature.{suffix}", "shape": [2, 2, 3]},
        "audio": {"file": f"audio_feature.{suffix}", "shape": [5]},
    }
    chosen = ImportSet.model_validate({"directory": tmp_path / "published", **sources, "dtype": "float16"})
    _, store = run(chosen, index(negatives=0), tmp_path / "store")
    for name, array in values.items():
        np.testing.assert_array_equal(store.read_entries(name, store.entries(index(negatives=0))), array)


@pytest.mark.fault(17)
def test_all_faults_of_all_files_are_reported_at_once_before_any_work(tmp_path, published):
    root, whole = published
    write_h5(root / "visual_feature.h5", whole["visual"][: ROWS - 1])
    (root / "audio_feature.h5").write_bytes((root / "audio_feature.h5").read_bytes()[:-300])
    write_h5(root / "visual_feature_noisy.h5", whole["visual"][ROWS:, :, :, :, :2])
    (root / "audio_feature_noisy.h5").unlink()
    found = problems(settings(root), index(), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert len(found) == 4, found
    assert says(found[0], "visual_feature.h5: ", "(6, 4, 2, 2, 3)", "(7, 4, 2, 2, 3)", "(7, 8, 2, 3)", "annotation rows")
    assert says(found[1], "visual_feature_noisy.h5: ", "(3, 4, 2, 2, 2)")
    assert says(found[2], "audio_feature.h5: ", "HDF5")
    assert "audio_feature_noisy.h5: " in found[3]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("<html>quota exceeded</html>", encoding="utf-8"), "HDF5"),
        (lambda path: write_h5(path, [b"text"] * ROWS), "numbers"),
        (lambda path: h5py.File(path, "w").close(), "nothing"),
        (lambda path: two_arrays(path), "one, two"),
        (lambda path: elsewhere(path), "other files"),
        (lambda path: path.symlink_to("/etc/hostname"), "link"),
    ],
)
@pytest.mark.fault(17)
def test_files_that_are_not_what_they_seem(tmp_path, published, make, words):
    root, _ = published
    (root / "audio_feature.h5").unlink()
    make(root / "audio_feature.h5")
    assert any("audio_feature.h5" in problem and words in problem for problem in problems(settings(root), index(), tmp_path / "store"))


def two_arrays(path):
    with h5py.File(path, "w") as file:
        file["one"], file["two"] = np.zeros(3), np.zeros(3)


def elsewhere(path):
    """Make an HDF5 file that reads its numbers from another file on the machine."""
    with h5py.File(path, "w") as file:
        file.create_dataset("avadataset", (ROWS, T, 5), "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.fault(17)
def test_rows_with_nan_or_infinity_are_all_named_and_nothing_is_stored(tmp_path, published, value):
    root, whole = published
    broken = {name: values.copy() for name, values in whole.items()}
    broken["visual"][5, 2, 1, 0, 2] = broken["visual"][5, 3, 0, 0, 0] = broken["audio"][1, 0, 4] = broken["audio"][ROWS + 1, 3, 0] = value
    for name, values in broken.items():
        write_h5(root / f"{name}_feature.h5", values[:ROWS])
        write_h5(root / NOISY[name], values[ROWS:])
    found = problems(settings(root), index(), tmp_path / "store")
    assert not (tmp_path / "store" / "spec.json").exists()
    expected = [
        (f"{root}/visual_feature.h5: row 5: 2 ", "NaN", "2, 3)"),
        (f"{root}/audio_feature.h5: row 1: 1 ", "NaN", " 0)"),
        (f"{root}/audio_feature_noisy.h5: row 1: 1 ", "NaN", " 3)"),
    ]
    assert each_says(found, expected)


@pytest.mark.fault(36)
def test_numbers_too_large_for_float16_are_reported_and_the_largest_that_fit_are_kept(tmp_path, published):
    root, whole = published
    whole["audio"][2, 1, 3], whole["audio"][2, 1, 0] = 65504.0, 65504.0
    write_h5(root / "audio_feature.h5", whole["audio"][:ROWS])
    _, store = run(settings(root, dtype="float16"), index(), tmp_path / "fits")
    assert store.read_entries("audio", np.array([2]))[0, 1, 3] == 65504
    whole["audio"][2, 1, 3] = 7e4
    write_h5(root / "audio_feature.h5", whole["audio"][:ROWS])
    found = problems(settings(root, dtype="float16"), index(), tmp_path / "store")
    assert each_says(found, [(f"{root}/audio_feature.h5: row 2: ", "7e+04", "float16", "dtype: float32")])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.fault(36)
def test_numbers_too_large_for_any_dtype_come_without_advice_to_change_it(tmp_path, published, dtype):
    root, whole = published
    audio = whole["audio"][:ROWS].astype(np.float64)
    audio[2, 1, 3] = -1e39  # float32 ends at 3.4e38
    write_h5(root / "audio_feature.h5", audio)
    found = problems(settings(root, dtype=dtype), index(), tmp_path / "store")
    assert each_says(found, [(f"{root}/audio_feature.h5: row 2: ", "1e+39", dtype)])
    assert "dtype: " not in found[0]


def test_all_zero_segments_are_accepted_but_named(tmp_path, published):
    root, whole = published
    whole["audio"][3, 1] = 0
    write_h5(root / "audio_feature.h5", whole["audio"][:ROWS])
    summary, _ = run(settings(root), index(), tmp_path / "store")
    assert one_says(summary.splitlines(), "zero audio segments", "1 (c)")


def test_the_bytes_are_the_same_after_a_fault_in_the_middle(tmp_path, published, monkeypatch):
    root, _ = published
    run(settings(root), index(), tmp_path / "whole", shard_bytes=500)
    write, calls = importer_module.write_entries, []

    def full_disk(stream, values):
        calls.append(len(values))
        if len(calls) == 5:
            raise OSError("no space left on device")
        write(stream, values)

    monkeypatch.setattr(importer_module, "write_entries", full_disk)
    (tmp_path / "torn").mkdir()
    with pytest.raises(OSError, match="no space"):
        Import(settings(root), DATASET, index(), shard_bytes=500).run(tmp_path / "torn")
    assert list((tmp_path / "torn").glob("visual-00?.npy"))
    assert not (tmp_path / "torn" / "spec.json").exists()
    calls.clear()
    monkeypatch.setattr(importer_module, "write_entries", lambda stream, values: (calls.append(len(values)), write(stream, values)))
    again, _ = run(settings(root), index(), tmp_path / "torn", shard_bytes=500)
    assert sum(calls) < 2 * (ROWS + NEGATIVES)  # whole shards were not written again
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "torn").iterdir()} == files
    assert one_says(again.splitlines(), "different visual features", "1 (a)")  # known from the notes of the kept shards, too


@pytest.mark.parametrize("part", ["visual-000.npy", "visual-000.checked.json"])
def test_shards_of_an_interrupted_import_are_verified_and_damaged_ones_made_again(tmp_path, published, monkeypatch, capsys, part):
    root, _ = published
    run(settings(root), index(), tmp_path / "whole", shard_bytes=200)
    shard = Import._shard

    def interrupted(self, name, start, stop, path, bar):
        if name == "audio":
            raise KeyboardInterrupt
        return shard(self, name, start, stop, path, bar)

    monkeypatch.setattr(Import, "_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(settings(root), index(), tmp_path / "store", shard_bytes=200)
    damaged = tmp_path / "store" / part
    content = bytearray(damaged.read_bytes())
    content[-9] ^= 0x40
    damaged.write_bytes(content)
    monkeypatch.setattr(Import, "_shard", shard)
    run(settings(root), index(), tmp_path / "store", shard_bytes=200)
    whole, again = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "store"))
    assert whole == again
    assert says(capsys.readouterr().err, "visual-000.npy", "damaged", "removed")


def test_a_rotten_chunk_is_refused_with_its_file_and_rows(tmp_path, published):
    root, _ = published
    path = root / "audio_feature.h5"
    path.unlink()
    write_h5(path, random(5, ROWS, T, 5), chunks=(2, T, 5), fletcher32=True)
    with h5py.File(path) as file:
        chunk = file["avadataset"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=rf"^{path}: rows 0 to 6 "):
        run(settings(root), index(), tmp_path / "store")
    with pytest.raises(ValueError, match=r"cannot be read"):
        read_array(path, (None, T, 5), longest=ROWS)


def test_a_changed_file_a_changed_setting_or_another_row_gives_another_fingerprint(published):
    root, whole = published
    fingerprints = [Import(settings(root), DATASET, index()).fingerprint(), Import(settings(root), DATASET, index()).fingerprint()]
    assert fingerprints[0] == fingerprints[1]
    fingerprints.append(Import(settings(root, dtype="float16"), DATASET, index()).fingerprint())
    fingerprints.append(Import(settings(root), DATASET, index(clips=[*CLIPS[:-1], "g"])).fingerprint())
    write_h5(root / "audio_feature.h5", whole["audio"][:ROWS] + 1)
    os.utime(root / "audio_feature.h5", ns=(1, 1))
    fingerprints.append(Import(settings(root), DATASET, index()).fingerprint())
    assert len(set(fingerprints)) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"audio": {"file": "../audio.h5", "shape": [5]}}, "directory"),
        ({"audio": {"file": "/audio.h5", "shape": [5]}}, "directory"),
        ({"audio": {"file": "audio.pkl", "shape": [5]}}, ".h5 or .npy"),
        ({"audio": {"file": "a.h5", "shape": [0]}}, "at least 1"),
        ({"audio": {"file": "a.h5", "shape": [5], "time": "average"}}, "time"),
        ({"audio": {"file": "a/{id}.npy", "shape": [5]}}, r"\{id\}.*entries"),
        ({"audio": {"file": "a.h5", "shape": [5], "negatives": "b.h5"}}, "negatives"),
        ({"others": {"audio": {"file": "a.h5", "shape": [5]}}}, "others.*audio"),
        ({"others": {"a b": {"file": "a.h5", "shape": [5]}}}, "letters, digits"),
    ],
)
def test_invalid_settings_are_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        settings(tmp_path, negatives=False, **change)


def test_memory_does_not_grow_with_the_files(tmp_path):
    """Measured in a process of its own: 210 MB of float64 through to float32."""
    write_h5(tmp_path / "published" / "audio_feature.h5", random(1, 150, 10, 5))
    with h5py.File(tmp_path / "published" / "visual_feature.h5", "w") as file:
        array = file.create_dataset("avadataset", (150, 10, 17500), "f8")
        for row in range(150):
            array[row] = row + 1
    script = f"""
        import resource, pandas as pd
        from pathlib import Path
        from pipeline.datasets import DatasetSettings
        from pipeline.features.importing import Import, ImportSet
        root = Path({str(tmp_path)!r})
        dataset = DatasetSettings(kind="ave", clips="data/none", annotations="x", segments=10, segment_seconds=1.0)
        rows = pd.DataFrame({{"row": range(150), "clip": [str(i) for i in range(150)], "split": "train", "seconds": float("nan")}})
        sources = {{"visual": {{"file": "visual_feature.h5", "shape": [17500]}}, "audio": {{"file": "audio_feature.h5", "shape": [5]}}}}
        importing = Import(ImportSet.model_validate({{"directory": root / "published", **sources}}), dataset, rows)
        importing.check()
        (root / "store").mkdir()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        importing.run(root / "store")
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, encoding="utf-8", check=True)
    assert float(done.stdout.split()[-1]) < 130  # MiB
    store = FeatureStore(tmp_path / "store")
    assert store.read("visual", ["149"])[0, 9, 17499] == 150
    assert json.loads((tmp_path / "store" / "spec.json").read_text(encoding="utf-8"))["published"]["visual"]["file"] == "visual_feature.h5"


def test_a_published_feature_file_is_imported(tmp_path, shared):
    """VGGish features of AVE's 178 negatives, as their authors left them: float64, cut at 0."""
    root = shared / "annotations" / "ave"
    if not (root / "audio_feature_noisy.h5").is_file():
        pytest.skip("no AVE features here")
    stream = {"file": "audio_feature_noisy.h5", "shape": [128]}
    rows = index(clips=[str(number) for number in range(178)], negatives=0)
    data = DATASET.model_copy(update={"segments": 10})
    importing = Import(ImportSet.model_validate({"directory": root, "visual": stream, "audio": stream}), data, rows)
    importing.check()
    (tmp_path / "store").mkdir()
    importing.run(tmp_path / "store")
    with h5py.File(root / "audio_feature_noisy.h5") as file:
        published = file["avadataset"][()]
    store = FeatureStore(tmp_path / "store")
    np.testing.assert_array_equal(store.read("audio", list(rows["clip"])), published.astype(np.float32))
    assert published.min() == 0
    assert published.max() == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("name", ["features/importing/fitting", "features/store", "datasets/arrays", "datasets/base"])
def test_other_code_gives_another_fingerprint(published, edited, name):
    first = Import(settings(published[0]), DATASET, index()).fingerprint()
    edited(f"pipeline/{name}.py")
    assert Import(settings(published[0]), DATASET, index()).fingerprint() != first
