"""Features of single films: the numbers that the stages store, in every format, resumed, and never in place of others' files."""

import json
import sys
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tiny_project import TINY, YAML_12

from pipeline.__main__ import main
from pipeline.cache import Cache, file_sha256
from pipeline.errors import InputProblems
from pipeline.features import encode, files
from pipeline.features.extraction import Extraction
from pipeline.features.folder import FeatureFolder
from pipeline.features.recipes import project_recipe, recipe
from pipeline.features.store import FeatureStore
from pipeline.media.decoding import decode_clips, make_jobs
from pipeline.time_grid import TimeGrid
from tests.media.conftest import write_clip
from tests.wording import says

VISUAL = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32}
HOW = {"visual": VISUAL, "audio": "logmel", "dtype": "float32", "device": "cpu", "segments": 3, "media": {"workers": 1}}
OPTIONS = ["--visual", *("timm" if key == "encoder" else f"{key}={value}" for key, value in VISUAL.items()), "--audio", "logmel"]
OPTIONS += ["--dtype", "float32", "--device", "cpu", "--segments", "3", "--media", "workers=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A film of one window, one of two that ends inside the second, and a file that is none."""
    made = tmp_path_factory.mktemp("films")
    write_clip(made / "short.mp4", seconds=3.0, size=(48, 64))
    write_clip(made / "long.mp4", seconds=4.6, size=(48, 64), first_number=40)
    (made / "page.mp4").write_text("<html>", encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def stored(folder, tmp_path_factory):
    """What the stages store of the two films' first windows: the store, by name."""
    root = tmp_path_factory.mktemp("stage")
    how, cache = recipe(**HOW), Cache(root / "cache")
    rows = [{"clip": path.stem, "file": str(path), "sha256": file_sha256(path), "start": 0.0} for path in folder.glob("[ls]*.mp4")]
    jobs, missing = make_jobs(pd.DataFrame(rows), how.windowing.segments, how.windowing.segment_seconds, how.media, cache)
    (root / "store").mkdir()
    Extraction(how.features, jobs, cache, 1).run(decode_clips(list(jobs.values()), missing, how.media), root / "store")
    return FeatureStore(root / "store")


@pytest.mark.parametrize(("step", "rate", "counts"), [(0.32, 3.125, (10, 15)), (0.5, 2.0, (6, 10))])
def test_clips_of_different_lengths_are_stored_on_a_finer_grid(folder, tmp_path, step, rate, counts):
    """Ten steps of 0.32 s begin within 3 s; what lies inside a clip does not depend on how many steps follow."""
    how = recipe(**{**HOW, "segments": 20, "segment_seconds": step, "media": {"workers": 1, "frames_per_second": rate}})
    cache, values = Cache(tmp_path / "cache"), {}
    rows = [
        {"clip": c, "file": str(folder / f"{c}.mp4"), "sha256": file_sha256(folder / f"{c}.mp4"), "start": 0.0} for c in ("short", "long")
    ]
    for segments in (20, 15):
        jobs, missing = make_jobs(pd.DataFrame(rows), segments, step, how.media, cache)
        manifest = decode_clips(list(jobs.values()), missing, how.media)
        assert set(manifest["status"]) <= {"padded", "ok"}
        (directory := tmp_path / str(segments)).mkdir()
        Extraction(how.features, jobs, cache, 1).run(manifest, directory)
        store = FeatureStore(directory)
        assert store.valid(["short", "long"]).sum(axis=1).tolist() == list(counts)
        assert TimeGrid.of(store.spec) == TimeGrid(step, step / 2)
        values[segments] = [store.read(stream, ["short"])[0, : counts[0]] for stream in ("visual", "audio")]
    for longer, shorter in zip(values[20], values[15], strict=True):
        np.testing.assert_array_equal(longer, shorter)


def command(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["python -m pipeline", "features", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


@pytest.fixture(scope="module")
def encoded(folder):
    """The features of the films and the verdicts on the others, by name; the encoder's spec."""
    encoder = files.FileEncoder(recipe(**HOW))
    found = {each.path.stem: each for each in encoder.encode([folder / f"{name}.mp4" for name in ("short", "page", "none", "long")])}
    assert not list(encoder.cache.root.rglob("*.npz"))  # no decoded film is left behind
    return found, encoder.spec()


def test_a_film_has_the_numbers_of_the_store_and_a_row_for_each_of_its_segments(encoded, stored):
    for name, segments in (("short", 3), ("long", 5)):
        found = encoded[0][name]
        assert (found.status, found.reason, found.lost) == ("ok", "", 0)
        assert found.visual_valid.tolist() == found.audio_valid.tolist() == [True] * segments
        for modality in ("visual", "audio"):
            expected = stored.read(modality, [name])[0]
            assert len(found.features[modality]) == segments
            assert found.features[modality][:3].tobytes() == expected.tobytes()
            assert found.features[modality].any(axis=tuple(range(1, expected.ndim))).all()


def test_what_cannot_be_read_has_a_status_and_raises_nothing(encoded):
    assert {name: (each.status, each.good) for name, each in encoded[0].items()} == {
        "short": ("ok", True), "long": ("ok", True), "page": ("unreadable", False), "none": ("missing", False),
    }  # fmt: skip


def test_a_window_that_is_lost_leaves_zeros_and_a_mask(folder, encoded, monkeypatch):
    whole, decode_each = encoded[0]["long"], files.decode_each

    def second_lost(jobs, settings):
        for job, verdict in decode_each(jobs, settings):
            yield job, {"status": "crashed", "reason": "SIGSEGV"} if job.start else verdict

    monkeypatch.setattr(files, "decode_each", second_lost)
    found = encode(folder / "long.mp4", **HOW)
    assert (found.status, found.lost) == ("partial", 1)
    assert says(found.reason, "1 of 2 windows", "crashed", "SIGSEGV")
    assert found.visual_valid.tolist() == found.audio_valid.tolist() == [True] * 3 + [False] * 2
    for modality, values in found.features.items():
        assert values[:3].tobytes() == whole.features[modality][:3].tobytes()
        assert not values[3:].any()


def test_every_wrong_choice_is_told_at_once():
    with pytest.raises(InputProblems) as told:
        recipe("resnet51", {"encoder": "logmel", "size": 3}, dtype="float64", media={"fps": 2}, segments=0)
    assert says(str(told.value), "5 problems", "dtype", "media.fps", "visual.encoder", "resnet50", "audio.size", "segments")


@pytest.mark.parametrize("form", ["npy", "h5", "parquet"])
def test_every_format_holds_the_same_numbers(encoded, tmp_path, form):
    found, spec = encoded
    directory = FeatureFolder(tmp_path / "out", form, spec)
    written = directory.write("short", found["short"])
    assert directory.write("none", found["none"]) == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"spec.json", "short.json", *(path.name for path in written)}
    for modality, values in found["short"].features.items():
        if form == "npy":
            read = np.load(tmp_path / "out" / f"short_{modality}.npy")
        elif form == "h5":
            with h5py.File(tmp_path / "out" / "short.h5") as file:
                assert file["visual_valid"][:].tolist() == [True] * 3
                read = file[modality][:]
        else:
            table = pq.read_table(tmp_path / "out" / "short.parquet")
            assert table["visual_valid"].to_pylist() == [True] * 3
            read = np.array(table[modality].to_pylist(), np.float32).reshape(values.shape)
        assert read.tobytes() == values.tobytes()
    made = json.loads((tmp_path / "out" / "spec.json").read_text(encoding="utf-8"))
    assert (made["format"], made["segments"], made["encoders"]["visual"]["settings"]["model"]) == (form, 3, "test_resnet")


def test_half_precision_fits_every_format(encoded, tmp_path):
    found, spec = encoded
    half = replace(found["long"], features={name: values.astype(np.float16) for name, values in found["long"].features.items()})
    [path] = FeatureFolder(tmp_path, "parquet", spec).write("long", half)
    assert np.array(pq.read_table(path)["audio"].to_pylist(), np.float16).tobytes() == half.features["audio"].tobytes()


def test_a_second_call_does_what_is_left_and_overwrites_nothing_of_others(folder, encoded, tmp_path, monkeypatch, capsys):
    mine, out = tmp_path / "films", tmp_path / "out"
    mine.mkdir()
    film = mine / "short.mp4"
    film.write_bytes((folder / "short.mp4").read_bytes())
    assert command(monkeypatch, film, folder / "page.mp4", folder / "none.mp4", *OPTIONS, "--out", out) == 1
    said = capsys.readouterr()
    assert says(said.out, "short.mp4: ok", "visual 3x")
    assert says(said.err, "page.mp4: unreadable", "none.mp4: missing")
    made = (out / "short_visual.npy").stat()

    def as_encoded(encoder, paths):
        return [replace(encoded[0]["short" if path.stat().st_size == size else "long"], path=path) for path in paths]

    size = film.stat().st_size
    monkeypatch.setattr(files.FileEncoder, "encode", as_encoded)
    assert command(monkeypatch, film, *OPTIONS, "--out", out) == 0
    assert says(capsys.readouterr().out, "finished before")
    assert (out / "short_visual.npy").stat() == made
    (out / "short_visual.npy").write_bytes(b"half")  # damaged, or cut off by a kill
    assert command(monkeypatch, film, *OPTIONS, "--out", out) == 0
    assert len(np.load(out / "short_visual.npy")) == 3
    film.write_bytes((folder / "long.mp4").read_bytes())  # another content under the same name
    assert command(monkeypatch, film, *OPTIONS, "--out", out) == 0
    assert len(np.load(out / "short_visual.npy")) == 5
    capsys.readouterr()
    assert command(monkeypatch, folder / "short.mp4", *OPTIONS, "--out", out) == 2  # another film of that name
    assert says(capsys.readouterr().err, "another film", str(film), "--out")
    assert command(monkeypatch, film, *OPTIONS, "--segment-seconds", "0.5", "--out", out) == 2
    assert says(capsys.readouterr().err, "segment_seconds: 1.0 there, 0.5 now")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert command(monkeypatch, film, *OPTIONS, "--out", tmp_path) == 2
    assert says(capsys.readouterr().err, "choose another --out")
    (out / "holiday_audio.npy").write_bytes(b"mine")
    assert command(monkeypatch, film.rename(mine / "holiday.mp4"), *OPTIONS, "--out", out) == 2
    assert says(capsys.readouterr().err, "holiday_audio.npy", "not written by this command")
    assert (out / "holiday_audio.npy").read_bytes() == b"mine"


def test_a_set_of_params_is_the_stages_own(tmp_path, monkeypatch, capsys):
    params = tmp_path / "mine.yaml"
    with open(params, "w", encoding="utf-8") as stream:
        YAML_12.dump({**TINY, "media": {**TINY["media"], "frames_per_second": 3}}, stream)
    how = project_recipe("first", params, "cpu")
    assert (how.media.frames_per_second, how.features.device) == (3, "cpu")
    assert (how.windowing.segments, how.windowing.segment_seconds) == (TINY["dataset"]["segments"], TINY["dataset"]["segment_seconds"])
    for words, told in (
        (["--set", "fist", "--params", params], "'first'"),
        (["--set", "first", "--params", params, "--dtype", "float32"], "leave out --dtype"),
        (["--visual", "timm"], "--audio ENCODER"),
        (["--visual", "timm", "model", "--audio", "logmel"], "'model' is no KEY=VALUE"),
    ):
        assert command(monkeypatch, "film.mp4", *words, "--out", tmp_path / "out") == 2
        assert says(capsys.readouterr().err, told)
    assert not (tmp_path / "out").exists()
