"""Write a prediction as files: events.json, segments.csv, timeline.png, attention.png, overlay.mp4."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import Cache
from pipeline.machine import PROJECT, project_version
from pipeline.media.settings import MediaSettings
from pipeline.media.windowing import Windowing
from pipeline.media.windows import Decoded, decode_windows, segments_inside
from pipeline.predict.prediction import Prediction
from pipeline.report import attention, timeline
from pipeline.tasks.tracks import named
from pipeline.text import printable

FILES = ("events.json", "segments.csv", "timeline.png", "attention.png", "overlay.mp4")
OVERLAY_RATE = 15.0  # frames per second, rounded to a whole number per segment
OVERLAY_SIDE = 360  # largest short side, in pixels
STRIP_PICTURES = 10


def write_prediction(prediction: Prediction, directory: Path) -> None:
    """Write all files except the overlay; attention.png only for methods with spatial attention."""
    title = f"{printable(prediction.path.name)}: {prediction.run}, {prediction.member}"
    (directory / "events.json").write_text(json.dumps(document(prediction), indent=1) + "\n", encoding="utf-8")
    (directory / "segments.csv").write_text(segment_lines(prediction), encoding="utf-8")
    timeline.draw(directory / "timeline.png", prediction.tracks, prediction.preview, prediction.segment_seconds, title=title)
    if prediction.attention is not None:
        _draw_strip(directory / "attention.png", prediction, title)


def document(prediction: Prediction) -> dict[str, Any]:
    """The content of events.json: the events, how they were predicted, and what could not be decoded; times in seconds."""
    return {
        "file": printable(prediction.path.name),
        "seconds": round(prediction.seconds, 3),
        "run": prediction.run,
        "seed": prediction.seed,
        **({} if prediction.fold is None else {"fold": prediction.fold}),
        "task": prediction.task,
        "method": prediction.method,
        "features": prediction.features,
        "written_by": f"{PROJECT} {project_version()}",
        "segment_seconds": prediction.segment_seconds,
        "events": [
            {**asdict(event), "start": round(event.start, 3), "end": round(event.end, 3), "score": round(event.score, 4)}
            for event in prediction.events
        ],
        "windows": [asdict(window) for window in prediction.windows],
    }


def segment_lines(prediction: Prediction) -> str:
    """The content of segments.csv: one line per segment.

    Columns: start, end, decoded, events ("Dog (audio-visual); Bell (audio)"), and the score of every class on every track.
    """
    tracks = prediction.tracks
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [(name, number) for name in tracks.scores for number in range(len(tracks.classes))]
    writer.writerow(["start", "end", "decoded", "events", *(f"{tracks.classes[number]} ({name})" for name, number in columns)])
    for segment in range(len(tracks)):
        start = segment * prediction.segment_seconds
        end = min(start + prediction.segment_seconds, prediction.seconds)
        known = bool(tracks.valid[segment])
        scores = [f"{tracks.scores[name][segment, number]:.4f}" if known else "" for name, number in columns]
        writer.writerow([f"{start:.3f}", f"{end:.3f}", int(known), named(prediction.tracks, segment), *scores])
    return text.getvalue()


def _draw_strip(path: Path, prediction: Prediction, title: str) -> None:
    assert prediction.attention is not None
    shown = prediction.preview
    chosen = np.unique(np.linspace(0, len(shown.segments) - 1, min(STRIP_PICTURES, len(shown.segments))).round().astype(int))
    segments = shown.segments[chosen]
    chosen, segments = chosen[segments < len(prediction.tracks)], segments[segments < len(prediction.tracks)]
    captions = [
        f"{timeline.clock(segment * prediction.segment_seconds)}  {named(prediction.tracks, segment) or 'background'}"
        for segment in segments
    ]
    attention.strip(path, shown.pictures[chosen], prediction.attention[segments], prediction.transform, captions, title)


def write_overlay(
    prediction: Prediction, media: MediaSettings, cache: Cache, path: Path, track: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write the file as an MP4 with sound, attention over the pictures, and the time and current events below.

    Parts that could not be decoded are black, silent and marked; the film is as long as the windows.

    Args:
        media: decoding settings of the run; the film has its own frame rate and size.
        cache: a scratch cache.
        track: called with (windows done, windows in all) after each window.
    """
    per_segment = max(1, round(OVERLAY_RATE * prediction.segment_seconds))
    rate = Fraction(per_segment) / Fraction(prediction.segment_seconds).limit_denominator(1000)
    display = media.model_copy(
        update={"frames_per_second": float(rate), "frame_size": OVERLAY_SIDE, "frame_offset": 0.5, "workers": 1}  # one worker: in order
    )
    windowing = Windowing(prediction.window_segments, prediction.segment_seconds)
    top = 2.0 if prediction.attention is None else attention.ceiling(prediction.attention)

    def scenes() -> Iterator[attention.AttendedScene]:
        size = (OVERLAY_SIDE, OVERLAY_SIDE)
        for window in decode_windows(prediction.path, prediction.seconds, windowing, display, cache):
            piece = _scene(window, prediction, per_segment, rate, size)
            size = piece.pictures.shape[1:3]
            yield piece
            track(window.number + 1, windowing.windows(prediction.seconds))

    attention.movie(path, scenes(), prediction.transform, top, rate)


def _scene(window: Decoded, prediction: Prediction, per_segment: int, rate: Fraction, size: tuple[int, int]) -> attention.AttendedScene:
    """One window of the film, cut at the end of the file; black pictures of ``size`` if nothing was decoded."""
    first = window.number * prediction.window_segments
    left = prediction.seconds - window.job.start
    frames = max(1, min(segments_inside(window.job, prediction.seconds) * per_segment, round(left * rate)))
    segments = [first + frame // per_segment for frame in range(frames)]
    moments = [window.job.start + (frame + 0.5) / float(rate) for frame in range(frames)]
    captions = [_caption(prediction, segment, moment) for segment, moment in zip(segments, moments, strict=True)]
    if not window.good:
        black = np.zeros((frames, *size, 3), np.uint8)
        return attention.AttendedScene(black, captions, np.zeros(0, np.float32), attention.FILM.sound_rate)
    pictures, waveform, sample_rate = window.arrays()
    weights = None
    if prediction.attention is not None and prediction.windows[window.number].good:  # only of windows that lie end to end
        weights = prediction.attention[segments]
    return attention.AttendedScene(pictures[:frames], captions, waveform, sample_rate, weights)


def _caption(prediction: Prediction, segment: int, moment: float) -> str:
    """The time, and the events of a segment; of spans with borders of their own, those at the moment."""
    if prediction.tracks.found is None:
        text = named(prediction.tracks, segment)
    else:
        there = (event.label for event in prediction.tracks.found if event.start <= moment < event.end)
        text = "; ".join(dict.fromkeys(there))  # all of one modality, and often several of one class
    text = text or "background"
    return f"{timeline.clock(segment * prediction.segment_seconds)}  {text if prediction.tracks.valid[segment] else 'not decoded'}"
