"""Features of films without a data set: windows, decoded and encoded as the stages do, joined end to end.

>>> from pipeline.features import encode
>>> found = encode("film.mp4", visual="resnet50", audio="cnn14")  # doctest: +SKIP
>>> found.status, found.features["visual"].shape  # doctest: +SKIP
('ok', (12, 7, 7, 2048))
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import Cache, file_sha256
from pipeline.features.clip_encoder import EXTRACT_VERSION, KIND, Clip
from pipeline.features.extraction import Extraction
from pipeline.features.recipes import Recipe, project_recipe, recipe
from pipeline.features.store import MODALITIES, Entry
from pipeline.media.clip import GOOD
from pipeline.media.decoding import decode_each
from pipeline.media.job import DECODE_VERSION, Job
from pipeline.media.job import KIND as DECODED
from pipeline.media.length import film_lengths
from pipeline.media.windows import segments_inside, window_jobs
from pipeline.progress import Progress
from pipeline.scratch import Scratch
from pipeline.text import printable

GROUP = 32  # windows whose decoded form lies on the disk at a time


@dataclass(frozen=True)
class FileFeatures:
    """The features of one file, one row for each of the T segments that begin inside it.

    status: as of :class:`pipeline.media.clip.DecodedClip`; ``partial`` also where some windows did not decode. ``changed``: the file
        changed while it was read.
    reason: one line; empty for ``ok``.
    features: by modality, (T, *shape) in the stored dtype, zeros where nothing was decoded; empty if no window decodes.
    visual_valid, audio_valid: (T,) bool, where the segment was decoded.
    lost: number of windows without features.
    machines: the machines that computed them, see :mod:`pipeline.machine`.
    """

    path: Path
    status: str
    reason: str
    sha256: str = ""
    seconds: float = 0.0
    features: dict[str, np.ndarray] = field(default_factory=dict)
    visual_valid: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    audio_valid: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    lost: int = 0
    machines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return bool(self.features)


def encode(path: str | os.PathLike[str], name: str | None = None, *, params: Path = Path("params.yaml"), **choices: Any) -> FileFeatures:
    """Compute the features of one film of any length; for many films, use one :class:`FileEncoder`.

    A film that cannot be read raises nothing: see its ``status``.

    Args:
        name: an entry of ``features`` in ``params``; None: ``choices`` say how.
        params: see :func:`project_recipe`; ``choices`` may then hold ``device``.
        choices: arguments of :func:`recipe`, ``visual`` and ``audio`` first of all.

    Raises:
        InputProblems: every unknown name and wrong value.
        PipelineError: weights are missing, or the device is; with advice.
    """
    how = recipe(**choices) if name is None else project_recipe(name, params, **choices)
    [found] = FileEncoder(how).encode([Path(path)])
    return found


@dataclass
class _Film:
    """A file in the making: the verdicts and entries of its windows so far."""

    path: Path
    sha256: str
    jobs: list[Job]
    seconds: float | None
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)


class FileEncoder:
    """The encoders of a recipe, loaded once for any number of files."""

    def __init__(self, how: Recipe) -> None:
        self.how = how
        self._scratch = Scratch("avel-features-")  # a cache of its own: hours of decoded films must not stay in the user's
        self.cache, self._jobs = Cache(self._scratch.path), dict[str, Job]()
        self._extraction = Extraction(how.features, self._jobs, self.cache)

    def spec(self) -> dict[str, Any]:
        """Everything that determines the numbers, as plain JSON."""
        windowing, versions = self.how.windowing, {"decode_version": DECODE_VERSION, "extract_version": EXTRACT_VERSION}
        any_job = Job("", "", "", 0.0, windowing.segments, windowing.segment_seconds, self.how.media, self.cache.root)
        return {**self._extraction.plan.spec(any_job), **versions}

    def encode(self, paths: Iterable[Path]) -> Iterator[FileFeatures]:
        """Yield the features of each file, in order; windows of several files share the encoders' passes.

        Raises:
            PipelineError: the scratch directory cannot be written, or features are not finite.
        """
        films = self._films(list(paths))
        waiting = [(film, job) for film in films for job in film.jobs]
        with Progress(desc="features", unit="window", total=len(waiting), leave=False) as bar:
            for film in films:
                while len(film.verdicts) < len(film.jobs):
                    group, waiting = waiting[:GROUP], waiting[GROUP:]
                    self._encode(group)
                    bar.update(len(group))
                yield self._joined(film)
                film.entries.clear()

    def _films(self, paths: list[Path]) -> list[_Film]:
        lengths = film_lengths([str(path) for path in paths if path.is_file()], self.how.media)
        films = []
        for path in paths:
            seconds = lengths[str(path)].seconds if str(path) in lengths else None
            try:
                sha256 = file_sha256(path)
            except OSError:
                sha256 = ""  # decoding tells what is wrong
            jobs = window_jobs(path, sha256, seconds or 0.0, self.how.windowing, self.how.media, self.cache)
            films.append(_Film(path, sha256, [replace(job, clip=f"{printable(str(path))}@{job.start:g}") for job in jobs], seconds))
        return films

    def _encode(self, group: list[tuple[_Film, Job]]) -> None:
        """Decode and encode windows side by side, and leave nothing of them in the cache."""
        self._jobs.clear()
        self._jobs.update({job.clip: job for _, job in group})
        verdicts: dict[str, dict[str, Any]] = {}
        clips: dict[str, Clip] = {}

        def decoded() -> Generator[Clip]:
            for job, verdict in decode_each(list(self._jobs.values()), self.how.media):
                verdicts[job.clip] = verdict
                if verdict["status"] in GOOD:
                    clips[job.clip] = self._extraction.plan.clip({"clip": job.clip, **verdict})
                    yield clips[job.clip]

        with closing(decoded()) as coming:
            self._extraction.engine.encode(coming, bar=False)
        for film, job in group:
            film.verdicts[job.clip] = verdicts[job.clip]
            if job.clip in clips:
                film.entries[job.clip] = self._extraction.entry(clips[job.clip])
        for job in self._jobs.values():
            self.cache.remove(DECODED, job.key)
        for clip in clips.values():
            for key in clip.keys.values():
                self.cache.remove(KIND, key)

    def _joined(self, film: _Film) -> FileFeatures:
        first = film.verdicts[film.jobs[0].clip]
        if not film.entries:
            return FileFeatures(film.path, first["status"], first["reason"], film.sha256, film.seconds or 0.0, lost=len(film.jobs))
        seconds = film.seconds if film.seconds is not None else float(first["seconds"])
        kept = [segments_inside(job, seconds) for job in film.jobs]
        shown = next(iter(film.entries.values()))
        features = {}
        for modality in MODALITIES:
            blank = np.zeros_like(shown.features[modality])
            features[modality] = np.concatenate(
                [
                    (film.entries[job.clip].features[modality] if job.clip in film.entries else blank)[:count]
                    for job, count in zip(film.jobs, kept, strict=True)
                ]
            )
        valid = {name: self._valid(film, name, kept) for name in ("visual_valid", "audio_valid")}
        status, reason = self._verdict(film, bool(all(mask.all() for mask in valid.values())))
        lost = len(film.jobs) - len(film.entries)
        return FileFeatures(
            film.path, status, reason, film.sha256, seconds, features, **valid, lost=lost, machines=self._extraction.machines
        )

    @staticmethod
    def _valid(film: _Film, name: str, kept: list[int]) -> np.ndarray:
        masks = [film.verdicts[job.clip].get(name, []) if job.clip in film.entries else [] for job in film.jobs]
        return np.concatenate([np.resize(mask or [False], count)[:count].astype(bool) for mask, count in zip(masks, kept, strict=True)])

    @staticmethod
    def _verdict(film: _Film, all_valid: bool) -> tuple[str, str]:
        """Status and reason of a film: its windows' worst.

        A film that ends inside its last window is not padded: the rest is cut off.
        """
        verdicts = [film.verdicts[job.clip] for job in film.jobs]
        lost = [verdict for verdict in verdicts if verdict["status"] not in GOOD]
        if lost:
            return (
                "partial",
                f"{len(lost)} of {len(verdicts)} windows have no features, the first is {lost[0]['status']}: {lost[0]['reason']}",
            )
        for status in ("partial", "silent", "padded"):
            found = [verdict for verdict in verdicts if verdict["status"] == status]
            if found and not (status == "padded" and all_valid):
                return status, found[0]["reason"]
        return "ok", ""
