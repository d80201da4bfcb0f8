"""Cache entries that the present params.yaml needs: those that its stages would look for, whether they are there or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cache import Cache
from pipeline.config import Params
from pipeline.contrastive import data as contrastive
from pipeline.datasets import read_index
from pipeline.datasets.base import expected_files
from pipeline.encoders import create
from pipeline.errors import PipelineError
from pipeline.features import clip_encoder
from pipeline.features.plan import feature_key
from pipeline.features.settings import EncoderChoice
from pipeline.media import job
from pipeline.media.decoding import make_jobs

KINDS = (job.KIND, job.VERDICTS, clip_encoder.KIND, contrastive.KIND, contrastive.DRAWN)
DEVICES = {"auto": ("cpu", "cuda")}  # entries of both are kept: another machine may have what this one lacks


@dataclass
class Needed:
    """Keys by kind; ``unknown`` has the kinds whose keys cannot be told, each with the reason."""

    keys: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    unknown: dict[str, str] = field(default_factory=dict)


def needed_entries(params: Params, index: Path) -> Needed:
    """Find the keys of all entries that the stages of ``params`` read or write.

    Args:
        index: directory that the stage `index` wrote.
    """
    needed, dataset = Needed(), params.dataset
    try:
        rows = expected_files(read_index(index, dataset.clips)[0], dataset)
    except (PipelineError, OSError) as error:
        needed.unknown = dict.fromkeys(
            KINDS, f"there is no index to tell the clips ({' '.join(str(error).split())}); run `dvc repro index`"
        )
        return needed
    jobs, _ = make_jobs(rows, dataset.segments, dataset.segment_seconds, params.media, Cache(params.cache.place))
    needed.keys[job.KIND] |= (decoded := {each.key for each in jobs.values()})
    needed.keys[job.VERDICTS] |= decoded
    for name, settings in params.features.items():
        for spec in _specs(needed, clip_encoder.KIND, f"features.{name}", (settings.visual, settings.audio)):
            for device in DEVICES.get(settings.device, (settings.device,)):
                needed.keys[clip_encoder.KIND] |= {feature_key(key, settings, spec, device) for key in decoded}
    for name, tuning in params.finetune.items():
        needed.unknown[contrastive.DRAWN] = f"which frames finetune.{name} draws depends on what decodes"
        for spec in _specs(needed, contrastive.KIND, f"finetune.{name}", (tuning.audio,)):
            for device in DEVICES.get(tuning.device, (tuning.device,)):
                tf32 = tuning.precision == "tf32"
                needed.keys[contrastive.KIND] |= {contrastive.audio_key(key, spec, device, tf32) for key in decoded}
    return needed


def _specs(needed: Needed, kind: str, place: str, choices: Iterable[EncoderChoice]) -> Iterator[dict]:
    """Yield what makes the numbers of each encoder; one whose weights are not here makes the kind unknown."""
    for choice in choices:
        try:
            yield create(choice.encoder, **choice.options).spec()
        except (PipelineError, OSError) as error:
            needed.unknown[kind] = f"{place} has no weights here ({' '.join(str(error).split())})"
