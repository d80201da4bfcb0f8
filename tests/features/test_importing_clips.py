"""Published files of one clip each: LLP's, VALOR's and UnAV-100's layouts, at their own rates."""

import math
import os

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool1d, interpolate

from pipeline.datasets import DatasetSettings
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.importing import Import, ImportSet
from pipeline.features.importing.fitting import average, clap_map, segments_of
from pipeline.features.store import FeatureStore
from pipeline.time_grid import TimeGrid
from tests.wording import each_says, one_says

T = 10
CLIPS = ["aaaaaaaaaaa", "-bbbbbbbbbb", "ccccccccccc"]
LLP = {
    "visual": {"file": "res152/{id}.npy", "shape": [8, 6]},
    "audio": {"file": "vggish/{id}.npy", "shape": [4]},
    "others": {
        "motion": {"file": "r2plus1d_18/{id}.npy", "shape": [3]},
        "visual_labels": {"file": "labels/CLIP/segment_pseudo_labels/{id}.npy", "shape": [25]},
    },
}


def dataset(kind="llp", segments=T):
    return DatasetSettings(kind=kind, clips="data/none", annotations="x", segments=segments, segment_seconds=1.0)


def index(clips=CLIPS, seconds=None):
    seconds = pd.Series(seconds or [None] * len(clips), dtype=float)
    return pd.DataFrame({"row": range(len(clips)), "clip": clips, "split": "train", "seconds": seconds})


def save(root, file, clip, values):
    path = root / file.replace("{id}", clip)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def write_llp(root):
    """Write every stream of every clip; return their numbers."""
    rng, held = np.random.default_rng(0), {}
    for clip in CLIPS:
        frames, labels = rng.random((80, 6), np.float32), rng.integers(0, 2, (T, 25))
        values = {"visual": frames, "audio": rng.random((T, 4)), "motion": rng.random((T, 3), np.float32), "visual_labels": labels}
        sources = {"visual": LLP["visual"], "audio": LLP["audio"], **LLP["others"]}
        for name, array in values.items():
            save(root, sources[name]["file"], clip, array)
        held[clip] = values
    return held


def run(settings, rows, directory, data=None):
    importing = Import(settings, data or dataset(), rows)
    importing.check()
    directory.mkdir(exist_ok=True)
    return importing.run(directory), FeatureStore(directory)


def settings(root, **changes):
    return ImportSet.model_validate({"directory": root, **LLP, **changes})


def test_llp_folders_become_a_store_with_frames_kept_apart_and_further_streams(tmp_path):
    held = write_llp(tmp_path / "feats")
    rows = index([CLIPS[2], CLIPS[0], CLIPS[1], CLIPS[0]])  # a clip in two rows is stored once
    _, store = run(settings(tmp_path / "feats"), rows, tmp_path / "store")
    assert len(store) == 3
    assert store.entries(rows).tolist() == [0, 1, 2, 1]
    assert store.shapes == {"visual": (8, 6), "audio": (4,), "motion": (3,), "visual_labels": (25,)}
    for clip, values in held.items():
        for second in range(T):
            frames = store.read("visual", [clip])[0, second]
            np.testing.assert_array_equal(frames, values["visual"][8 * second : 8 * second + 8])
        for name in ("audio", "motion", "visual_labels"):
            np.testing.assert_array_equal(store.read(name, [clip])[0], values[name].astype(np.float32))


def test_clips_without_files_are_left_out_and_named_up_to_a_share(tmp_path):
    write_llp(tmp_path / "feats")
    (tmp_path / "feats" / "vggish" / f"{CLIPS[1]}.npy").unlink()
    with pytest.raises(InputProblems, match=r" 1 \(-bbbbbbbbbb\).*max_missing_fraction = 0\.05"):
        run(settings(tmp_path / "feats"), index(), tmp_path / "store")
    summary, store = run(settings(tmp_path / "feats", max_missing_fraction=0.5), index(), tmp_path / "store")
    assert store.entries(index()).tolist() == [0, -1, 1]
    assert one_says(summary.splitlines(), "without a file", "left out", "1 (-bbbbbbbbbb)")


@pytest.mark.fault(17)
def test_every_bad_file_is_named_before_any_work(tmp_path):
    root = tmp_path / "feats"
    write_llp(root)
    whole = (root / "vggish" / f"{CLIPS[0]}.npy").read_bytes()
    (root / "vggish" / f"{CLIPS[0]}.npy").write_bytes(whole[:-8])
    save(root, "vggish/{id}.npy", CLIPS[1], np.zeros((T, 5)))
    (root / "vggish" / f"{CLIPS[2]}.npy").write_bytes(b"<html>")
    np.save(root / "res152" / f"{CLIPS[0]}.npy", np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    save(root, "res152/{id}.npy", CLIPS[1], np.asfortranarray(np.zeros((80, 6))))
    target = save(tmp_path, "elsewhere/{id}.npy", CLIPS[2], np.zeros((80, 6)))
    (root / "res152" / f"{CLIPS[2]}.npy").unlink()
    (root / "res152" / f"{CLIPS[2]}.npy").symlink_to(target)
    save(root, "r2plus1d_18/{id}.npy", CLIPS[0], np.full((T, 3), "x"))
    with pytest.raises(InputProblems) as caught:
        run(settings(root), index(), tmp_path / "store")
    expected = [
        "pickle",
        "Fortran",
        "a link that leads out",
        "truncated: ",
        "(10, 5) instead of (10, 4)",
        ".npy",
        "numbers are needed",
    ]
    assert len(caught.value.problems) == len(expected)
    for problem, words in zip(caught.value.problems, expected, strict=True):
        assert words in problem, problem
    assert not (tmp_path / "store").exists()


def test_unav_features_of_any_rate_are_averaged_to_the_seconds_of_each_video(tmp_path):
    """Against the definition of adaptive average pooling, written as a loop in float64."""
    root, rng = tmp_path / "av_features", np.random.default_rng(1)
    lengths, seconds = [37, 4, 130], [12.2, 10.0, 60.0]  # 3.1 a second; a video shorter in rows than in seconds; a longer one than T
    rgb = {"file": "{id}_rgb.npy", "shape": [5], "time": "average"}
    chosen = ImportSet.model_validate({"directory": root, "visual": rgb, "audio": {**rgb, "file": "{id}_vggish.npy", "shape": [3]}})
    held = {clip: rng.random((length, 5)) for clip, length in zip(CLIPS, lengths, strict=True)}
    for clip, values in held.items():
        save(root, "{id}_rgb.npy", clip, values.astype(np.float32))
        save(root, "{id}_vggish.npy", clip, values[:, :3].astype(np.float16))
    _, store = run(chosen, index(seconds=seconds), tmp_path / "store", dataset("unav100", 20))
    for clip, duration in zip(CLIPS, seconds, strict=True):
        own = min(20, math.ceil(duration))
        rows = held[clip].astype(np.float32).astype(np.float64)
        n = len(rows)
        expected = [rows[math.floor(i * n / own) : math.ceil((i + 1) * n / own)].mean(axis=0) for i in range(own)]
        stored = store.read("visual", [clip])[0]
        np.testing.assert_allclose(stored[:own], expected, rtol=1e-6)
        assert not stored[own:].any()
        assert store.valid([clip])[0].tolist() == [True] * own + [False] * (20 - own)


UNAV_STREAMS = {"visual": ("rgb", 5), "motion": ("flow", 4), "audio": ("vggish", 3)}


def unav_rows(root, lengths, **changes):
    """Write UnAV's three files for clips with these rows by stream, as float64; return the settings and the numbers."""
    rng, held = np.random.default_rng(5), {}
    for clip, of_clip in lengths.items():
        for (stream, (name, width)), length in zip(UNAV_STREAMS.items(), of_clip, strict=True):
            if length is not None:
                held[clip, stream] = rng.normal(size=(length, width))
                save(root, f"{{id}}_{name}.npy", clip, held[clip, stream])
    streams = {s: {"file": f"{{id}}_{name}.npy", "shape": [width], "time": "rows"} for s, (name, width) in UNAV_STREAMS.items()}
    motion = {"others": {"motion": streams.pop("motion")}}
    grid = {"segments": 7, "segment_seconds": 0.32, "first_seconds": 0.48, "max_missing_fraction": 0.4}
    return ImportSet.model_validate({"directory": root, **streams, **motion, **grid, **changes}), held


def test_rows_are_taken_as_they_are_up_to_the_shortest_stream(tmp_path):
    """One row long, streams a row apart, longer than T; the stated duration has no say; a clip without a stream is left out."""
    lengths = dict(zip([*CLIPS, "ddddddddddd"], [(1, 1, 1), (5, 6, 4), (9, 9, 8), (5, None, 5)], strict=True))
    chosen, held = unav_rows(tmp_path / "av", lengths)
    summary, store = run(chosen, index(list(lengths), [60.0] * 4), tmp_path / "store", dataset("unav100", 60))
    for clip, own in zip(CLIPS, (1, 4, 7), strict=True):
        for stream in UNAV_STREAMS:
            values = store.read(stream, [clip])[0]
            np.testing.assert_array_equal(values[:own], held[clip, stream][:own].astype(np.float32))
            assert not values[own:].any()
        assert store.valid([clip])[0].tolist() == [True] * own + [False] * (7 - own)
    assert "ddddddddddd" not in store
    assert TimeGrid.of(store.spec) == TimeGrid(0.32, 0.48)
    expected = [("left out", "1 (ddddddddddd)"), ("shortest", "2 (-bbbbbbbbbb, ccccccccccc)"), ("cut off at 7 rows", "1 (ccccccccccc)")]
    assert each_says(summary.splitlines()[1:], expected)


def test_a_set_of_averages_may_lie_on_another_grid_than_the_data_set(tmp_path):
    chosen, _ = unav_rows(tmp_path / "av", {CLIPS[0]: (37, 37, 37)})
    averaged = chosen.model_dump() | {"segments": 20, "segment_seconds": 1.0, "first_seconds": None}
    for source in (averaged["visual"], averaged["audio"], *averaged["others"].values()):
        source["time"] = "average"
    data = DatasetSettings(kind="unav100", clips="data/none", annotations="x", segments=224, segment_seconds=0.32)
    _, store = run(ImportSet.model_validate(averaged), index(CLIPS[:1], [12.2]), tmp_path / "store", data)
    assert int(store.valid(CLIPS[:1]).sum()) == 13
    assert TimeGrid.of(store.spec) == TimeGrid(1.0, 0.5)
    assert not {"step_seconds", "first_seconds"} & set(store.spec)


def test_only_rows_have_a_first_moment_of_their_own(tmp_path):
    with pytest.raises(ValueError, match=r"first_seconds.*time: rows"):
        ImportSet.model_validate({"directory": tmp_path, **LLP, "first_seconds": 0.48})


def test_a_file_without_a_row_is_named(tmp_path):
    chosen, _ = unav_rows(tmp_path / "av", {CLIPS[0]: (0, 3, 3)})
    with pytest.raises(InputProblems, match=r"_rgb\.npy: shape \(0, 5\) instead of \(n, 5\) with n > 0"):
        Import(chosen, dataset(), index(CLIPS[:1])).check()


def test_padding_is_not_counted_as_silence(tmp_path):
    for name in ("rgb", "vggish"):
        save(tmp_path, f"{{id}}_{name}.npy", CLIPS[0], np.ones((9, 2)))
    stream = {"shape": [2], "time": "average"}
    chosen = {"visual": {"file": "{id}_rgb.npy", **stream}, "audio": {"file": "{id}_vggish.npy", **stream}}
    summary, _ = run(ImportSet.model_validate({"directory": tmp_path, **chosen}), index(CLIPS[:1], [3.0]), tmp_path / "store")
    assert "zero" not in summary


@pytest.mark.parametrize(("seconds", "own"), [(None, 10), (math.nan, 10), (3.0, 3), (3.0000001, 3), (3.01, 4), (0.2, 1), (99.0, 10)])
def test_how_many_segments_a_clip_has(seconds, own):
    assert segments_of(seconds, 10, 1.0) == own


def test_an_average_of_one_row_is_that_row():
    assert average(np.array([[1.0, 2.0]]), 3, 4).tolist() == [[1, 2], [1, 2], [1, 2], [0, 0]]


def test_clap_map_reduction_commutes_with_valors_projection():
    """VALOR's order of operations in float64 (resize, project, mean, average) against ours (resize, mean, average, then project)."""
    rng = np.random.default_rng(2)
    published = rng.normal(size=(64, 7)).astype(np.float32)
    project = torch.nn.Linear(7, 5).double()
    grid = torch.from_numpy(published.T.reshape(7, 2, 32)).double()
    points = interpolate(grid[None], size=(2, 1024), mode="bicubic")[0]  # (7, 2, 1024)
    projected = project(points.permute(1, 2, 0)).mean(0)  # (1024, 5)
    theirs = adaptive_avg_pool1d(projected.T[None], T)[0].T
    ours = project(torch.from_numpy(clap_map(published, T).copy()).double())
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_valors_features_and_labels_are_imported(tmp_path):
    rng = np.random.default_rng(3)
    for clip in CLIPS:
        save(tmp_path, "CLIP/features/{id}.npy", clip, rng.random((T, 6), np.float32))
        save(tmp_path, "CLAP/features/{id}.npy", clip, rng.random((64, 6), np.float32))
        save(tmp_path, "CLAP/segment_pseudo_labels/{id}.npy", clip, rng.integers(0, 2, (T, 25)))
    chosen = {
        "visual": {"file": "CLIP/features/{id}.npy", "shape": [6]},
        "audio": {"file": "CLAP/features/{id}.npy", "shape": [6], "time": "clap_map"},
        "others": {"audio_labels": {"file": "CLAP/segment_pseudo_labels/{id}.npy", "shape": [25]}},
    }
    _, store = run(ImportSet.model_validate({"directory": tmp_path, **chosen}), index(), tmp_path / "store")
    assert store.read("audio", CLIPS).shape == (3, T, 6)
    assert set(np.unique(store.read("audio_labels", CLIPS))) == {0, 1}


def test_a_file_cut_off_between_check_and_reading_is_an_error_with_its_name(tmp_path):
    write_llp(tmp_path / "feats")
    importing = Import(settings(tmp_path / "feats"), dataset(), index())
    importing.check()
    os.truncate(tmp_path / "feats" / "vggish" / f"{CLIPS[1]}.npy", 140)
    (tmp_path / "store").mkdir()
    with pytest.raises(PipelineError, match=rf"vggish/{CLIPS[1]}\.npy: "):
        importing.run(tmp_path / "store")
    assert not (tmp_path / "store" / "spec.json").exists()


def test_training_only_labels_are_not_needed_for_other_clips(tmp_path):
    """Clips outside the training split need no file; an existing one is not read, and -1 is stored instead."""
    held = write_llp(tmp_path)
    rows = index().assign(split=["val", "train", "test"])
    labels = {**LLP["others"]["visual_labels"], "training_only": True}
    settings = ImportSet(directory=tmp_path, **{**LLP, "others": {**LLP["others"], "visual_labels": labels}})
    file = str(labels["file"])
    (tmp_path / file.replace("{id}", CLIPS[0])).unlink()
    (tmp_path / file.replace("{id}", CLIPS[2])).write_bytes(b"no array")
    importing = Import(settings, dataset(), rows)
    importing.check()
    (tmp_path / "store").mkdir()
    importing.run(tmp_path / "store")
    stored = FeatureStore(tmp_path / "store").read("visual_labels", CLIPS)
    np.testing.assert_array_equal(stored[1], held[CLIPS[1]]["visual_labels"])
    assert (stored[[0, 2]] == -1).all()
    (tmp_path / file.replace("{id}", CLIPS[1])).unlink()
    with pytest.raises(InputProblems, match=r"without a file.* 1 \(-bbbbbbbbbb\)"):
        Import(settings, dataset(), rows).check()


@pytest.mark.parametrize("stream", ["visual", "audio"])
def test_every_clip_needs_features(tmp_path, stream):
    with pytest.raises(ValueError, match=rf"{stream}.*training_only"):
        ImportSet(directory=tmp_path, **{**LLP, stream: {**LLP[stream], "training_only": True}})
