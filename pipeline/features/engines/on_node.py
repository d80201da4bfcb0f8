"""The work on clips at a node of a cluster: decode in guarded children, encode as the local engine does.

Rows hold bytes and arrays, as a table of blocks between processes can. No error leaves a row: it is the answer.
"""

from __future__ import annotations

import io
import pickle
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pipeline.cache import Cache
from pipeline.disk import disk_fault
from pipeline.errors import PipelineError
from pipeline.media.decoding import decode_each, decode_in_hand, load_decoded, load_sound
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from pipeline.ray_nodes import Place

if TYPE_CHECKING:
    from pipeline.features.clip_encoder import Clip
    from pipeline.features.engines.local import ThisProcess
    from pipeline.features.settings import FeatureSet

FEATURES = "features"  # kind of the cache's entries; their module imports torch, which decoding does not need
LOADERS = 2  # threads of an actor with a GPU
Result = TypeVar("Result")
Arrays = tuple[np.ndarray, np.ndarray, int]  # frames (T*F, H, W, 3) uint8, waveform (L,) float32, sample rate
NOTHING: Arrays = (np.empty((0, 1, 1, 3), np.uint8), np.empty(0, np.float32), 0)  # a rate of 0: there is nothing to encode


@dataclass(frozen=True)
class Work:
    """A clip to decode and, where it has ``keys``, to encode.

    keys: the cache keys of its features by modality; None where it is only decoded.
    verdict: known already; None where the clip is decoded first.
    """

    job: Job
    keys: dict[str, str] | None = None
    verdict: dict[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """What became of a clip.

    verdict: of its decoding.
    problem: a message for the user, which ends the stage.
    fault: the traceback of an error of the code, which ends it too.
    said: what was printed meanwhile.
    busy: the fields of a :class:`pipeline.features.lanes.Throughput`; those of all clips of an actor's call are in one answer.
    """

    key: str
    verdict: dict[str, Any]
    problem: str | None = None
    fault: str | None = None
    said: str = ""
    busy: dict[str, float] = field(default_factory=dict)


def decode(row: dict[str, Any], place: Place) -> dict[str, Any]:
    """Decode the clip of a row in a guarded child, and add what there is to encode."""
    work: Work = pickle.loads(row["work"])
    job, began = work.job, time.monotonic()

    def work_on() -> tuple[dict[str, Any], Arrays | None]:
        place.enter()
        cache, alone = Cache(job.cache_root), job.settings.model_copy(update={"workers": 1})
        lacking = {modality for modality, key in (work.keys or {}).items() if not cache.has(FEATURES, key)}
        if work.verdict is None and not lacking:
            [(_, verdict)] = decode_each([job], alone)
            return verdict, None
        if work.verdict is None:
            [(_, verdict, arrays)] = decode_in_hand([job], alone, store=True)
            return verdict, (arrays["frames"], arrays["waveform"], verdict["sample_rate"]) if arrays else None
        if "visual" in lacking:
            return work.verdict, load_decoded(cache, job.clip, job.key, job)
        return work.verdict, (NOTHING[0], *load_sound(cache, job.clip, job.key, job)) if lacking else None

    found, report = reporting(work_on)
    verdict, arrays = found or ({}, None)
    frames, waveform, rate = arrays or NOTHING
    answer = Answer(job.key, verdict, busy={"loading": time.monotonic() - began}, **report)
    return {**row, "answer": pickle.dumps(answer), "frames": frames, "waveform": waveform, "rate": rate}


class Decode:
    """Decodes the clips of a batch of rows, in one guarded child; an actor holds it."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        works: list[Work] = [pickle.loads(work) for work in batch["work"]]
        verdicts: dict[str, dict[str, Any]] = {}

        def work_on() -> None:
            self.place.enter()
            verdicts.update((job.key, verdict) for job, verdict in decode_each(*_alone(works)))

        return _answered(works, verdicts, reporting(work_on)[1])


class Encode:
    """Encodes the clips of a batch of rows as the local engine does; an actor holds it.

    It decodes first those that no task decoded.

    Args:
        settings: the entry of ``features``, with the device that the cache keys speak of.
        root: of the cache.
    """

    def __init__(self, place: Place, settings: FeatureSet, root: Path) -> None:
        self.place = place
        self.engine, self.report = reporting(lambda: self._engine(settings, root))  # told with the first answer: the stage ends then

    def _engine(self, settings: FeatureSet, root: Path) -> ThisProcess:
        self.place.enter()
        from pipeline.features.clip_encoder import ClipEncoder
        from pipeline.features.engines.local import ThisProcess

        encoder = ClipEncoder(settings, Cache(root))
        return ThisProcess(encoder, LOADERS if encoder.card else 1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        works: list[Work] = [pickle.loads(work) for work in batch["work"]]
        verdicts: dict[str, dict[str, Any]] = {}
        if self.engine is None:
            return _answered(works, verdicts, self.report)
        if "answer" in batch:
            return self._decoded(works, batch)
        known = works[0].verdict is not None  # of all or of none
        clips = [_clip(work) for work in works] if known else self._decoding(works, verdicts)
        busy, report = reporting(lambda: self._encode(clips))
        return _answered(works, {work.job.key: work.verdict or {} for work in works} if known else verdicts, report, busy)

    def _decoded(self, works: Sequence[Work], batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        """Encode what tasks have decoded."""
        answers: list[Answer] = [pickle.loads(answer) for answer in batch["answer"]]
        arrays = zip(works, batch["frames"], batch["waveform"], batch["rate"], strict=True)
        clips = [_clip(work, frames, waveform, int(rate)) for work, frames, waveform, rate in arrays if rate]
        if clips:
            busy, report = reporting(lambda: self._encode(clips))
            first, total = answers[0], Counter(answers[0].busy)
            total.update(busy or {})
            answers[0] = replace(first, busy=dict(total), **{**report, "said": first.said + report["said"]})
        return {"answer": [pickle.dumps(answer) for answer in answers]}

    def _decoding(self, works: Sequence[Work], verdicts: dict[str, dict[str, Any]]) -> Iterator[Clip]:
        """Decode the clips of works in one guarded child; yield those to encode, a few ahead of the encoder."""
        assert self.engine is not None
        (jobs, settings), of_key, cache = _alone(works), {work.job.key: work for work in works}, self.engine.encoder.cache
        whole = {key for key, work in of_key.items() if all(cache.has(FEATURES, features) for features in (work.keys or {}).values())}
        encoded, others = [job for job in jobs if job.key in whole], [job for job in jobs if job.key not in whole]  # either may be empty
        verdicts.update((job.key, verdict) for job, verdict in decode_each(encoded, settings))
        for job, verdict, arrays in decode_in_hand(others, settings, store=True):
            verdicts[job.key] = verdict
            if arrays:
                yield _clip(of_key[job.key], arrays["frames"], arrays["waveform"], verdict["sample_rate"])

    def _encode(self, clips: Iterable[Clip]) -> dict[str, float]:
        assert self.engine is not None
        took = self.engine.encode(clips, bar=False)
        busy = {name: getattr(took, name) for name in ("clips", "loading", "encoding", "for_clips", "for_passes")}
        return busy | ({} if took.card is None else {"card": took.card})


def _alone(works: Sequence[Work]) -> tuple[list[Job], MediaSettings]:
    """The jobs of works, and their settings for one child at a time: an actor holds one core."""
    settings = works[0].job.settings.model_copy(update={"workers": 1})
    return [replace(work.job, settings=settings) for work in works], settings


def _clip(work: Work, frames: np.ndarray | None = None, waveform: np.ndarray | None = None, rate: int = 0) -> Clip:
    """A clip to encode; without arrays it is read from the cache, or decoded again."""
    from pipeline.features.clip_encoder import Clip, InHand

    in_hand = None if frames is None or waveform is None else InHand({"frames": frames, "waveform": waveform}, rate)
    return Clip({}, _alone([work])[0][0], work.keys or {}, in_hand)


def _answered(
    works: Sequence[Work], verdicts: Mapping[str, dict[str, Any]], report: dict[str, Any], busy: dict[str, float] | None = None
) -> dict[str, list[bytes]]:
    """The column of answers; the first has the report, and how busy the actor was with all."""
    answers = [Answer(work.job.key, verdicts.get(work.job.key, {})) for work in works]
    answers[0] = replace(answers[0], busy=busy or {}, **report)
    return {"answer": [pickle.dumps(answer) for answer in answers]}


def reporting(function: Callable[[], Result]) -> tuple[Result | None, dict[str, Any]]:
    """Call a function on a node, and collect what there is to report.

    Returns:
        The result, None after an error; and fields of an :class:`Answer`: a problem or a fault, and what was printed.
    """
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            result = function()
    except PipelineError as error:
        return None, {"problem": str(error), "said": said.getvalue()}
    except Exception as error:
        sentence = disk_fault(error)
        return None, {"problem": sentence, "fault": None if sentence else traceback.format_exc(), "said": said.getvalue()}
    return result, {"said": said.getvalue()}
