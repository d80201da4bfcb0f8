"""Find a file's length, and whether it has picture and sound, in a guarded child process."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pipeline.media.clip import facts
from pipeline.media.container import MediaError
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.length import length_of
from pipeline.media.material import probe_material
from pipeline.media.settings import MediaSettings


@dataclass(frozen=True)
class Survey:
    """What a file holds.

    status: empty for a file with moving pictures and a sound track of some length, else one of :data:`pipeline.media.clip.BAD`.
    reason: one line; empty for a good file.
    seconds: its length as the container states it, else up to its last packet.
    facts: see :class:`pipeline.media.clip.DecodedClip`.
    """

    status: str
    reason: str
    seconds: float
    facts: dict[str, Any]


def survey(path: str | os.PathLike[str], settings: MediaSettings) -> Survey:
    """Look at a file within the time and memory limits of ``settings``; never raises for bad media."""
    [found] = survey_each([os.fspath(path)], settings).values()
    return found


def survey_each(paths: Collection[str], settings: MediaSettings) -> dict[str, Survey]:
    """Look at files, several at a time; see :func:`survey`."""
    limits = {"timeout_seconds": settings.timeout_seconds, "memory_mb": settings.memory_mb}
    workers = min(settings.workers, max(1, len(paths)))
    outcomes = run_guarded(_look, [(path, settings) for path in paths], workers=workers, **limits)  # type: ignore[arg-type]
    return {
        path: Survey(outcome.status, outcome.reason, 0.0, {}) if isinstance(outcome, Failure) else outcome
        for (path, _), outcome in outcomes
    }


def _look(job: tuple[str, MediaSettings]) -> Survey:
    """Survey one file; runs in a child process."""
    path, settings = job
    try:
        found = probe_material(path, settings)
        if found.video is None:
            return Survey("no_video", "the file has no moving picture", found.duration or 0.0, facts(found))
        if found.audio is None:
            return Survey("no_audio", "the file has no usable audio stream", found.duration or 0.0, facts(found))
        seconds = length_of(path, found)
    except MediaError as error:
        return Survey(error.status, error.reason, 0.0, {})
    return Survey("", "", seconds, facts(found))
