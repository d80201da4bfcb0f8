"""Write a demo world: clips, and annotations in the layouts of AVE and LLP or of UnAV-100."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from pipeline.children import end_with
from pipeline.errors import PipelineError
from pipeline.media.movie import write_clip
from pipeline.synth.annotations import write_annotations, write_dense_annotations
from pipeline.synth.dense import draw_dense_world
from pipeline.synth.plan import ClipPlan, draw_world
from pipeline.synth.scenes import render_scene
from pipeline.synth.settings import SynthSettings
from pipeline.synth.soundtrack import render_soundtrack


def write_world(root: Path, settings: SynthSettings, workers: int = 2, track: Callable[[Iterable, int], Iterable] | None = None) -> None:
    """Write ``root/clips/ID.mp4`` and the annotation files; the same settings give the same bytes, whatever the workers.

    Existing clips are kept (a clip's name is a hash of all that shapes it, and a file of that name is always whole), so an interrupted
    call resumes where it stopped. The annotations come last: a root that has them is complete.

    Args:
        workers: processes to render in; 1 renders in this process.
        track: wraps the finished clips and their number, e.g. to show progress.

    Raises:
        PipelineError: ``workers`` below 1, or ``root/clips`` holds files that do not belong to this world.
    """
    if workers < 1:
        raise PipelineError(f"workers is {workers}; give at least 1")
    dense = settings.kind == "dense"
    plans = draw_dense_world(settings) if dense else draw_world(settings)
    clips = Path(root) / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    _clear_unfinished(clips, plans)
    missing = [plan for plan in plans if not (clips / f"{plan.id}.mp4").exists()]
    write = partial(_write_clip, clips, settings)
    if workers == 1:
        _drain(map(write, missing), len(missing), track)
    else:
        # spawned, not forked: the caller may hold threads (a decoder's, torch's) that do not survive a fork
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with, initargs=(os.getpid(),)) as pool:
            _drain(pool.map(write, missing, chunksize=4), len(missing), track)
    (write_dense_annotations if dense else write_annotations)(Path(root), plans)


def _drain(finished: Iterable, count: int, track: Callable[[Iterable, int], Iterable] | None) -> None:
    for _ in finished if track is None else track(finished, count):
        pass


def _clear_unfinished(clips: Path, plans: list[ClipPlan]) -> None:
    """Remove partial files of an interrupted call, and refuse to mix with another world's clips."""
    for unfinished in clips.glob(".*.mp4.partial"):
        unfinished.unlink()
    known = {f"{plan.id}.mp4" for plan in plans}
    foreign = sorted(path.name for path in clips.iterdir() if path.name not in known)
    if foreign:
        raise PipelineError(
            f"{clips} holds {len(foreign)} files that do not belong to this world (first: {foreign[0]}), "
            "perhaps clips of other settings; remove the folder or write elsewhere"
        )


def _write_clip(clips: Path, settings: SynthSettings, plan: ClipPlan) -> None:
    waveform = render_soundtrack(plan, settings).mixed()
    write_clip(clips / f"{plan.id}.mp4", render_scene(plan, settings), settings.video_rate, waveform, settings.audio_rate)
