"""Dense localization of whole files: as `evaluate` in one window, joined over many, drawn with overlapping events."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.media.clip import decode_clip
from pipeline.media.settings import MediaSettings
from pipeline.media.windows import decode_windows
from pipeline.methods import METHODS
from pipeline.predict import load_run
from pipeline.predict import predictor as predictor_room
from pipeline.report.preview import PEAK_SECONDS
from pipeline.sealed import read_sealed
from pipeline.tasks import dave
from stages import evaluate, train
from tests.predict.dense_method import FixedSpans

CLIPS = Path("data/raw/tiny/clips")


@pytest.fixture
def dense(project, edit_params, monkeypatch):
    """The project with a trained run `spans` of the task `dave`."""
    monkeypatch.setitem(METHODS._entries, "spans", FixedSpans)

    def add(params):
        params["methods"]["spans"] = {}
        params["runs"]["spans"] = {"task": "dave", "method": "spans", "features": "first", "seeds": [0], "overrides": {}}

    edit_params(add)
    if not Path("data/results/runs/spans/metrics.json").is_file():
        monkeypatch.setattr(train, "keep_freed_memory", lambda: None)
        train.main("spans")
        evaluate.main("spans")
    return project


def test_a_file_of_one_window_has_the_detections_that_evaluate_gave_it(dense):
    lines = pd.read_parquet("data/results/runs/spans/predictions.parquet")
    lines = lines[lines["split"] == "test"]
    assert {*lines["kind"]} == {"clip", "true", "found"}
    predictor, events = load_run("spans"), 0
    for clip, of_clip in list(lines.groupby("clip"))[::3]:  # two of the six
        found = predictor.predict(CLIPS / f"{clip}.mp4").tracks
        expected, _ = dave.table_tracks(of_clip, predictor.facts["classes"], 1.0)
        np.testing.assert_allclose(found.scores["audio_visual"], expected.scores["audio_visual"], atol=2e-5)
        assert [event.label for event in found.found] == [event.label for event in expected.found]
        for one, other in zip(found.found, expected.found, strict=True):
            assert (one.start, one.end, one.score) == pytest.approx((other.start, other.end, other.score), abs=2e-5)
        events += len(found.found)
    assert events


def test_the_trivial_answers_stand_beside_the_scores(dense):
    metrics = read_sealed(Path("data/results/runs/spans/metrics.json"))
    of_test = metrics["seeds"]["test"]["0"]
    assert metrics["headline"] == "mAP"
    assert of_test["baseline_every_class_whole_clip"] < of_test["baseline_true_classes_whole_clip"] <= of_test["baseline_true_classes_hull"]
    assert 0 < of_test["mAP"] < of_test["baseline_true_classes_hull"]


@pytest.fixture
def film(project, films, tmp_path):
    """Twenty-five seconds of the world's clips: windows of ten seconds, five apart."""
    display = MediaSettings(frames_per_second=films.fps, frame_offset=0.0)
    parts = [decode_clip(clip, start=0.0, segments=10, segment_seconds=1.0, settings=display) for clip in sorted(CLIPS.iterdir())[:3]]
    frames, sound = np.concatenate([part.frames for part in parts]), np.concatenate([part.waveform for part in parts])
    return films.write(tmp_path / "film.mkv", frames[: 25 * films.fps], sound[: 25 * films.rate])


def test_a_long_film_is_read_in_overlapping_windows_and_drawn_with_overlapping_events(dense, film, run, tmp_path):
    code, said, _ = run(film, "--run", "spans", "--overlay", "--out", tmp_path)
    answer = json.loads((tmp_path / "film/events.json").read_text(encoding="utf-8"))
    assert code == 0
    assert [window["start"] for window in answer["windows"]] == [0.0, 5.0, 10.0, 15.0]
    events = answer["events"]
    assert len(said.splitlines()) == 1 + len(events)
    assert all(0 <= event["start"] < event["end"] <= 25 for event in events)
    assert any(event["start"] % 1 not in (0.0, 0.5) for event in events)
    assert any(event["end"] - event["start"] > 0 and event["start"] > 18 for event in events)
    pairs = [(one, other) for one, other in combinations(events, 2) if one["start"] < other["end"] and other["start"] < one["end"]]
    assert any(one["label"] == other["label"] for one, other in pairs)
    assert len(pd.read_csv(tmp_path / "film/segments.csv")) == 25
    with av.open(str(tmp_path / "film/overlay.mp4")) as overlay:
        assert float(overlay.duration / av.time_base) == pytest.approx(25, abs=0.2)


@pytest.mark.parametrize(("lost", "unknown", "problems"), [(1, 0, []), (0, 5, ["0 s to 5 s: damaged: cut"])])
def test_a_window_that_cannot_be_decoded_is_a_problem_where_no_other_holds_it(dense, film, monkeypatch, lost, unknown, problems):
    def damaged(*arguments):
        for window in decode_windows(*arguments):
            yield replace(window, verdict={**window.verdict, "status": "damaged", "reason": "cut"}) if window.number == lost else window

    monkeypatch.setattr(predictor_room, "decode_windows", damaged)
    found = load_run("spans").predict(film)
    assert (~found.tracks.valid).nonzero()[0].tolist() == [*range(unknown)]
    assert found.problems == problems
    assert len(found.preview.peaks) == pytest.approx(25 / PEAK_SECONDS, abs=2)


def test_a_dense_run_is_exported_and_its_program_refused(dense, monkeypatch, capsys, tmp_path):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        with suppress(SystemExit):
            main()
        return capsys.readouterr()

    clip = sorted(CLIPS.iterdir())[0]
    command("export", "spans", "--out", tmp_path / "spans.avel")
    for name, source in (("project", ("--run", "spans")), ("file", ("--model", tmp_path / "spans.avel"))):
        command("predict", clip, *source, "--out", tmp_path / name)
    answers = [(tmp_path / name / clip.stem / "events.json").read_bytes() for name in ("project", "file")]
    assert answers[0] == answers[1]
    assert "leave out --program" in command("export", "spans", "--program", "--out", tmp_path / "other.avel").err
