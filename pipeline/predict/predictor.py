"""Predict files with a trained run: extract its features window by window and apply its method."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.batch import Batch
from pipeline.cache import Cache
from pipeline.devices import choose_device, use_precision
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.clip_encoder import KIND
from pipeline.features.extraction import Extraction
from pipeline.features.recipes import spec_differences
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from pipeline.media.sounds import sound_beside
from pipeline.media.survey import Survey, survey
from pipeline.media.windows import Decoded, decode_windows, segments_inside
from pipeline.predict.exported import of_file
from pipeline.predict.prediction import Prediction, WindowReport
from pipeline.predict.source import Source, of_project
from pipeline.report import preview
from pipeline.report.timeline import clock
from pipeline.scratch import Scratch
from pipeline.tasks import TASKS, tracks
from pipeline.text import printable
from pipeline.time_grid import TimeGrid

LONGEST_SECONDS = 3600.0
MOST_PICTURES = 60  # in the preview of one file


class Refused(PipelineError):
    """A file that cannot be predicted; the message gives the reason in one sentence."""


@dataclass(frozen=True)
class Answer:
    """The result of one window.

    tracks: None if the window could not be decoded; scores likewise.
    attention: (T, S) over S positions; None without spatial attention.
    """

    report: WindowReport
    preview: preview.Preview
    tracks: tracks.Tracks | None = None
    scores: Any = None
    attention: np.ndarray | None = None


def load_run(run: str, seed: int | None = None, fold: int | None = None) -> Predictor:
    """Load a trained run to find events in any number of video files.

    The working directory must be the project's: ``params.yaml`` and ``models/runs`` are read from there.

    >>> for event in load_run("cace_net").predict("film.mp4").events:  # doctest: +SKIP
    ...     print(event)

    Args:
        run: an entry of ``runs`` in params.yaml that has been trained.
        seed: one of its seeds; None: the first.
        fold: of a run with folds, which fold's network; None: the first, trained without the clips of folds 0 and 1.

    Raises:
        UnknownName: no such run.
        InputProblems: today's settings would make other features; every setting that differs.
        PipelineError: the run was never trained, its task finds no events in files, or an encoder's weights are missing; with advice.
    """
    return Predictor(of_project(run, seed, fold))


def load_exported(path: str | os.PathLike[str], seed: int | None = None, fold: int | None = None, run_code: bool = False) -> Predictor:
    """Load a run from the file that ``python -m pipeline export`` wrote; no project is needed.

    Args:
        seed, fold: one of the seeds in it, and of a run with folds one of its folds; None: the first.
        run_code: whether an encoder (``hear``) may be a program that the file names or carries; without, such a file is refused.

    Raises:
        PipelineError: the file is not such a file, is damaged or of a later version, an encoder's published weights are missing here, or
            it would run code.
    """
    return Predictor(of_file(Path(path), seed, fold, run_code))


class Predictor:
    """One seed of a trained run, loaded once for any number of files; made by :func:`load_run` or :func:`load_exported`.

    A context manager, after whose block it predicts no more: its temporary files are removed there, or else with it.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.run, self.seed = source, source.run, source.seed
        self.method, self.facts, self.media, self.windowing = source.method, source.facts, source.media, source.windowing
        self.task, self.grid = TASKS.get(self.facts["task"]), TimeGrid.of(self.facts["feature_spec"])
        if self.task.overlapping_windows:
            self.windowing = replace(self.windowing, hop=max(1, self.windowing.segments // 2))
        self.device = choose_device(source.train.device)
        use_precision(self.device, source.train.precision)
        self.dtype = torch.float64 if source.train.precision == "64-true" else torch.float32
        self.method.to(device=self.device, dtype=self.dtype)
        # A cache of its own, because an hour of decoded video must not stay in the user's cache.
        self._scratch = Scratch("avel-predict-")
        self.cache, self._jobs = Cache(self._scratch.path), dict[str, Job]()
        self._extraction = Extraction(source.features, self._jobs, self.cache)
        self._check_features()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        for scratch in (self._scratch, self.source.unpacked):
            if scratch is not None:
                scratch.close()

    def predict(self, path: str | os.PathLike[str], track: Callable[[int, int], None] = lambda done, total: None) -> Prediction:
        """Find the events of a video file of at most an hour, in any container that the decoder reads.

        A folder of numbered pictures is a film too, at the rate ``media.pictures_per_second``; its sound is the file beside it that bears
        its name, or the one in ``dataset.sounds``.

        Only scores, attention, loudness and a few small pictures are kept in memory for the whole file.

        Args:
            track: called with (windows done, windows in all) after each window.

        Raises:
            Refused: the file is missing, not a video, without sound or longer than an hour, or none of its windows can be decoded.
        """
        path = Path(path)
        media = self.media_of(path)
        found = survey(path, media)
        check_file(path, found)
        total = self.windowing.windows(found.seconds)
        every = math.ceil(total * self.windowing.hop_segments / MOST_PICTURES)
        answers: dict[int, Answer] = {}
        with closing(decode_windows(path, found.seconds, self.windowing, media, self.cache)) as windows:
            for window in windows:
                answers[window.number] = self._answer(window, found.seconds, every)
                track(len(answers), total)
        return self._join(path, found.seconds, [answers[number] for number in range(total)])

    def media_of(self, path: Path) -> MediaSettings:
        """How a file is read: with the sound of its name in ``dataset.sounds``, if any, else with its own."""
        return self.media if sound_beside(path, self.media.sounds) is not None else self.media.with_sounds(None)

    def _answer(self, window: Decoded, seconds: float, every: int) -> Answer:
        verdict, job, windowing = window.verdict, window.job, self.windowing
        segments, last = segments_inside(job, seconds), window.number + 1 == windowing.windows(seconds)
        own = windowing.segments if last else windowing.hop_segments  # the next window shows the rest
        report = WindowReport(job.start, segments, verdict["status"], verdict["reason"], window.good)
        if not window.good:
            return Answer(report, preview.silence(min(own, segments) * windowing.segment_seconds))
        batch = self._features(window, seconds)
        with torch.no_grad():
            scores = self.method.predict(batch.to(self.device)).to("cpu")
        if not scores.finite(batch.mask).all():
            raise PipelineError(f"{self.source.weights}: its scores of the window at {job.start:g} s are not finite; train the run again")
        attention = self.task.attention(scores)
        frames, waveform, rate = window.arrays()
        share = Fraction(own, windowing.segments)
        shown = preview.preview(
            frames[: int(len(frames) * share)],
            waveform[: int(len(waveform) * share)],
            rate,
            own,
            every,
            window.number * windowing.hop_segments,
        )
        return Answer(
            report,
            shown,
            self.task.tracks(scores, batch.mask, self.facts["classes"], windowing.segment_seconds).part(slice(segments)),
            scores,
            None if attention is None else attention[0, :segments].float().numpy(),
        )

    def _features(self, window: Decoded, seconds: float) -> Batch:
        """Extract a window's features exactly as `extract` would store them; B = 1."""
        self._jobs[window.job.clip] = window.job
        [clip] = self._extraction.plan.clips(pd.DataFrame([{"clip": window.job.clip, "key": window.job.key, **window.verdict}]))
        self._extraction.engine.encode([clip], bar=False)
        entry = self._extraction.entry(clip)
        for key in clip.keys.values():
            self.cache.remove(KIND, key)
        del self._jobs[window.job.clip]
        visual, audio = (torch.from_numpy(entry.features[name])[None].to(self.dtype) for name in ("visual", "audio"))
        length = min(seconds - window.job.start, self.windowing.seconds)
        return Batch(visual, audio, torch.tensor([clip.facts["valid"]]), grid=self.grid, seconds=torch.tensor([length]))

    def _join(self, path: Path, seconds: float, answers: list[Answer]) -> Prediction:
        """Join the windows: end to end, or as the task joins overlapping ones.

        Raises:
            Refused: no window was decoded, or none has sound.
        """
        name, reason = printable(str(path)), answers[0].report.reason
        first = next((answer for answer in answers if answer.tracks is not None), None)
        if first is None or first.tracks is None:
            raise Refused(f"{name}: none of its windows decodes well enough ({answers[0].report.status}: {reason})")
        if all(answer.report.status == "silent" for answer in answers):
            raise Refused(f"{name} has no sound that decodes ({reason}); a run needs picture and sound")
        unknown = first.tracks
        if self.task.overlapping_windows:
            joined = self._joined(answers, seconds)
        else:
            joined = tracks.join([answer.tracks or unknown.unknown(answer.report.segments) for answer in answers])
        attention = None
        if first.attention is not None and len(self.method.visual_shape) == 3:
            blank = np.zeros((self.windowing.segments, first.attention.shape[1]), np.float32)
            parts = [blank[: answer.report.segments] if answer.attention is None else answer.attention for answer in answers]
            attention = np.concatenate(parts).reshape(-1, *self.method.visual_shape[:2])
        return Prediction(
            path=path,
            seconds=seconds,
            run=self.run,
            seed=self.seed,
            fold=self.source.fold,
            task=self.facts["task"],
            method=self.facts["method"],
            features=self.facts["features"],
            segment_seconds=self.windowing.segment_seconds,
            window_segments=self.windowing.segments,
            tracks=joined,
            attention=attention,
            transform=self.facts["feature_spec"]["encoders"]["visual"]["transform"],
            windows=[answer.report for answer in answers],
            preview=preview.join([answer.preview for answer in answers]),
        )

    def _joined(self, answers: list[Answer], seconds: float) -> tracks.Tracks:
        """Tracks of the file from the scores of overlapping windows; a segment in any of them is known."""
        step, good = self.windowing.segment_seconds, [answer for answer in answers if answer.tracks is not None]
        length = max(round(answer.report.start / step) + answer.report.segments for answer in answers)
        known = torch.zeros(1, length, dtype=torch.bool)
        for answer in good:
            assert answer.tracks is not None
            first = round(answer.report.start / step)
            known[0, first : first + answer.report.segments] |= torch.from_numpy(answer.tracks.valid)
        scores = self.task.joined([(answer.report.start, answer.scores) for answer in good], self.windowing.seconds, step, seconds)
        return self.task.tracks(scores, known, self.facts["classes"], step)

    def _check_features(self) -> None:
        """Check that today's settings make the same features as those of the training.

        Raises:
            InputProblems: every setting that differs.
        """
        any_job = Job("", "", "", 0.0, self.windowing.segments, self.windowing.segment_seconds, self.media, self.cache.root)
        now = json.loads(json.dumps(self._extraction.plan.spec(any_job)))
        if problems := spec_differences(self.facts["feature_spec"], now, "in training"):
            raise InputProblems(f"run {self.run!r} was trained with other settings; {self.source.advice}", problems)


def check_file(path: Path, found: Survey) -> None:
    """Check the survey of a file.

    Raises:
        Refused: the file cannot be predicted.
    """
    name = printable(str(path))
    sentences = {
        "missing": f"{name}: {found.reason}",
        "no_video": f"{name} has no moving picture; a run needs picture and sound",
        "no_audio": f"{name} has no sound; a run needs picture and sound",
        "refused": f"{name} is refused: {found.reason}",
    }
    if found.seconds > LONGEST_SECONDS:
        raise Refused(f"{name} lasts {clock(found.seconds)}, longer than an hour; cut it into parts")
    if found.status:
        raise Refused(sentences.get(found.status, f"{name} is not a video that can be read ({found.reason})"))
    if not found.seconds > 0:
        raise Refused(f"{name} is not a video that can be read (it has no length)")
