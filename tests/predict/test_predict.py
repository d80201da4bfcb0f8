"""Whole files through a trained run: the same scores as `evaluate`, no seams, honest refusals."""

import gc
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.errors import InputProblems, PipelineError
from pipeline.features.recipes import spec_differences
from pipeline.media.clip import decode_clip
from pipeline.media.settings import MediaSettings
from pipeline.predict import Prediction, Predictor, Refused, load_run
from pipeline.sealed import read_sealed, write_sealed
from tests.wording import each_says, one_says, says

CLIPS = Path("data/raw/tiny/clips")


@pytest.fixture(scope="session")
def minute(world, films, tmp_path_factory) -> Path:
    """Sixty seconds: the six test clips of the world, one after another."""
    clips = sorted((world / CLIPS).iterdir())[:6]
    display = MediaSettings(frames_per_second=films.fps, frame_offset=0.0)
    parts = [decode_clip(clip, start=0.0, segments=10, segment_seconds=1.0, settings=display) for clip in clips]
    assert all(part.good and part.sample_rate == films.rate for part in parts)
    path = tmp_path_factory.mktemp("films") / "minute.mkv"
    return films.write(path, np.concatenate([part.frames for part in parts]), np.concatenate([part.waveform for part in parts]))


@pytest.fixture(scope="session")
def windows(minute, films, tmp_path_factory) -> list[Path]:
    """The six windows of `minute`, each remuxed into its own file without encoding."""
    directory = tmp_path_factory.mktemp("windows")
    return [films.part_of(minute, 10.0 * number, 10.0, directory / f"window-{number}.mkv") for number in range(6)]


@pytest.fixture(scope="session")
def whole(world, minute) -> tuple[Prediction, list[tuple[int, int, int]]]:
    """The prediction of `minute`; after each window (windows done, windows, entries in the cache of decoded windows)."""
    counts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        patch.setenv("AVEL_CACHE", str(world / "cache"))
        predictor = load_run("cace")
        found = predictor.predict(minute, lambda done, total: counts.append((done, total, entries(predictor))))
        assert entries(predictor) == 0
    return found, counts


def entries(predictor: Predictor) -> int:
    return sum(1 for _ in predictor.cache.root.rglob("*.npz"))


@pytest.fixture
def predictor(project) -> Predictor:
    return load_run("cace")


@pytest.mark.parametrize(("run", "seed"), [("avel", 4), ("avel", 0), ("cace", 1)])
def test_a_clip_has_the_scores_that_evaluate_gave_it(project, run, seed):
    lines = pd.read_parquet(f"data/results/runs/{run}/predictions.parquet")
    lines = lines[(lines["split"] == "test") & (lines["seed"] == seed)]
    loaded = load_run(run, seed)
    for clip, of_clip in list(lines.groupby("clip"))[seed % 2 :: 3]:  # two of the six
        found = loaded.predict(CLIPS / f"{clip}.mp4")
        of_clip = of_clip.sort_values("segment")
        expected = np.stack(list(of_clip["scores"]))
        np.testing.assert_allclose(found.tracks.scores["audio_visual"], expected[:, :-1], atol=2e-6)
        decided = found.tracks.active["audio_visual"]
        labels = np.where(decided.any(axis=1), decided.argmax(axis=1), decided.shape[1])
        assert list(labels) == list(of_clip["predicted"])
        attention = np.stack(list(of_clip["attention"])).reshape(10, *found.attention.shape[1:])
        np.testing.assert_allclose(found.attention, attention, atol=2e-6)
        np.testing.assert_allclose(found.attention.sum(axis=(1, 2)), 1, rtol=1e-5)


def test_sixty_seconds_score_as_their_six_windows_do(predictor, whole, windows):
    whole, _ = whole
    parts = [predictor.predict(window) for window in windows]
    assert [window.start for window in whole.windows] == [0, 10, 20, 30, 40, 50]
    assert len(whole.tracks) == 60
    assert [len(part.tracks) for part in parts] == [10] * 6
    joined = np.concatenate([part.tracks.scores["audio_visual"] for part in parts])
    np.testing.assert_array_equal(whole.tracks.scores["audio_visual"], joined)
    np.testing.assert_array_equal(
        whole.tracks.active["audio_visual"], np.concatenate([part.tracks.active["audio_visual"] for part in parts])
    )
    np.testing.assert_array_equal(whole.attention, np.concatenate([part.attention for part in parts]))
    assert np.ptp(joined.reshape(6, 10, -1), axis=0).max() > 0.01  # the windows are not all alike


def test_the_first_seed_is_the_default_and_python_has_one_call(project, minute):
    found = load_run("avel").predict(minute)
    assert (found.seed, found.run, found.method, found.task, found.features) == (4, "avel", "avel", "avel", "first")


def test_the_last_window_is_padded_and_masked_as_a_short_clip_is(predictor, minute, films, tmp_path):
    found = predictor.predict(films.part_of(minute, 0.0, 14.5, tmp_path / "short.mkv"))
    rest = predictor.predict(films.part_of(minute, 10.0, 4.5, tmp_path / "rest.mkv"))
    assert found.seconds == pytest.approx(14.5)
    assert [window.segments for window in found.windows] == [10, 5]
    assert len(found.tracks) == 15
    assert found.tracks.valid.all()
    np.testing.assert_array_equal(found.tracks.scores["audio_visual"][10:], rest.tracks.scores["audio_visual"])
    assert all(event.end <= found.seconds + 1e-9 for event in found.events)
    tail = predictor.predict(films.part_of(minute, 0.0, 10.25, tmp_path / "tail.mkv"))
    assert len(tail.tracks) == 10


def test_a_window_that_does_not_decode_is_said_and_spoils_no_other(predictor, whole, minute, films, tmp_path):
    whole, _ = whole
    damaged = tmp_path / "damaged.mkv"
    content = bytearray(minute.read_bytes())
    first, last = films.span_of(minute, 20.5, 9.0)
    content[first:last] = bytes(last - first)
    damaged.write_bytes(content)
    found = predictor.predict(damaged)
    assert [window.good for window in found.windows] == [True, True, False, True, True, True]
    assert list(np.flatnonzero(~found.tracks.valid)) == list(range(20, 30))
    (problem,) = found.problems
    assert says(problem, "20 s", "30 s", "truncated: ")
    kept = [segment for segment in range(60) if not 20 <= segment < 30]
    np.testing.assert_array_equal(found.tracks.scores["audio_visual"][kept], whole.tracks.scores["audio_visual"][kept])
    assert not found.tracks.scores["audio_visual"][20:30].any()
    assert not found.tracks.active["audio_visual"][20:30].any()
    assert found.attention.shape[0] == 60


def test_scores_that_are_not_finite_are_refused_with_the_weights_named(predictor, windows):
    with torch.no_grad():
        for weight in predictor.method.parameters():
            weight.fill_(3e38)
    with pytest.raises(PipelineError, match=r"models/runs/cace/seed-1\.safetensors: .*\b0 s\b.*not finite"):
        predictor.predict(windows[0])


def test_what_is_decoded_is_gone_window_by_window(predictor, whole):
    _, counts = whole
    assert [count[:2] for count in counts] == [(number, 6) for number in range(1, 7)]
    assert max(count[2] for count in counts) <= 1 + predictor.media.workers  # the one in hand, and one more of each worker


def test_the_scratch_directory_goes_with_the_predictor(project):
    loaded = load_run("cace")
    root = loaded.cache.root
    assert root.is_dir()
    del loaded
    gc.collect()
    assert not root.exists()


def test_files_that_cannot_be_predicted_are_refused_in_one_sentence(predictor, films, minute, tmp_path):
    frames, waveform = np.zeros((8, 64, 64, 3), np.uint8), np.zeros(2 * films.rate, np.float32)
    text = tmp_path / "notes.mp4"
    text.write_text("not a video", encoding="utf-8")
    reasons = {
        tmp_path / "absent.mp4": "no such file",
        text: "is not a video that can be read",
        films.write(tmp_path / "mute.mkv", frames, None): "has no sound",
        films.write(tmp_path / "voice.mkv", None, waveform): "has no moving picture",
        long_file(tmp_path / "long.mkv", films, 3601): "lasts 1:00:01, longer than an hour",
    }
    for path, reason in reasons.items():
        with pytest.raises(Refused) as refusal:
            predictor.predict(path)
        assert reason in str(refusal.value)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def long_file(path, films, seconds):
    """A small file that lasts ``seconds``: a few packets far apart."""
    short = films.write(path.with_name("source.mkv"), np.zeros((8, 64, 64, 3), np.uint8), np.zeros(2 * films.rate, np.float32), keyframe=1)
    with av.open(str(short)) as source, av.open(str(path), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.pts * packet.time_base >= 1:
                shift = round((seconds - 2) / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return path


def test_a_run_that_cannot_predict_says_why(project):
    with pytest.raises(PipelineError, match="'cace'"):
        load_run("cage")
    with pytest.raises(PipelineError, match=r"'later'.*dvc repro evaluate@later"):
        load_run("later")
    with pytest.raises(PipelineError, match=r"'avel'.*\b9\b.*\b0, 4\b"):
        load_run("avel", 9)


def test_features_made_otherwise_than_in_training_are_refused_all_at_once(edit_params):
    def change(params):
        params["media"]["frames_per_second"] = 2
        params["features"]["first"]["visual"]["image_size"] = 96
        params["features"]["first"]["visual"]["resize"] = 96

    edit_params(change)
    with pytest.raises(InputProblems) as error:
        load_run("cace")
    assert one_says(error.value.problems, "media.frames_per_second: ", "1.0", "2.0")
    assert one_says(error.value.problems, "encoders.visual.settings.image_size: ", "64", "96")


def test_how_work_is_done_is_no_difference(edit_params):
    edit_params(lambda params: params["media"].update(workers=2, timeout_seconds=99.0))
    assert load_run("cace").media.workers == 2


def test_missing_weights_are_named(edit_params):
    edit_params(lambda params: params["features"]["first"]["visual"].update(weights="elsewhere/eye.pth"))
    with pytest.raises(PipelineError, match=r"elsewhere/eye\.pth.*efficientnet_lite0"):
        load_run("cace")


def test_a_run_on_imported_features_cannot_see_a_new_file(project, monkeypatch):
    facts = Path("models/runs/cace/seed-1.json")
    content = facts.read_text(encoding="utf-8")
    document = read_sealed(facts)
    document["feature_spec"]["encoders"] = {}
    write_sealed(facts, document)
    try:
        with pytest.raises(PipelineError, match=r"cace.*encoders"):
            load_run("cace")
    finally:
        facts.write_text(content, encoding="utf-8")


def test_a_run_whose_task_finds_no_events_of_a_file_is_refused(project):
    """Cross-modality localization needs a query, which a file alone does not give."""
    facts = Path("models/runs/cace/seed-1.json")
    content = facts.read_text(encoding="utf-8")
    write_sealed(facts, {**read_sealed(facts), "task": "cml"})
    try:
        with pytest.raises(PipelineError, match=r"'cace'.*'cml'"):
            load_run("cace")
    finally:
        facts.write_text(content, encoding="utf-8")


def test_differences_of_documents():
    assert spec_differences({"a": {"b": 1, "c": [2]}}, {"a": {"b": 1, "c": [2]}}, "in training") == []
    found = spec_differences({"a": {"b": 1}, "d": None}, {"a": {"b": 2, "e": 3}, "d": None}, "in training")
    assert each_says(found, [("a.b: ", "1", "2"), ("a.e: ", "None", "3")])
