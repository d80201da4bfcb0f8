"""Cache entries that the present params.yaml needs: those that its stages would look for, whether they are there or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.cache import Cache
from pipeline.config import Params
from pipeline.contrastive import data as contrastive
from pipeline.contrastive.batches import lasting_draw
from pipeline.datasets import hashes, read_index
from pipeline.encoders import create
from pipeline.errors import PipelineError
from pipeline.features import clip_encoder
from pipeline.features.plan import feature_key
from pipeline.features.settings import EncoderChoice
from pipeline.made_from import index_params
from pipeline.made_with import changed_params, read_made_with
from pipeline.media import job
from pipeline.media.decoding import make_jobs
from pipeline.tables import read_table

KINDS = (job.KIND, job.VERDICTS, clip_encoder.KIND, contrastive.KIND, contrastive.DRAWN, hashes.KIND)
DEVICES = {"auto": ("cpu", "cuda")}  # entries of both are needed: another machine may have what this one lacks


@dataclass
class Needed:
    """Keys by kind; ``unknown`` has the kinds whose keys cannot be told, each with the reason."""

    keys: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    unknown: dict[str, str] = field(default_factory=dict)

    def without_index(self, reason: str) -> Needed:
        """Make every kind unknown whose keys the index tells."""
        self.unknown = dict.fromkeys((kind for kind in KINDS if kind != hashes.KIND), f"{reason}; run `dvc repro index`")
        return self


def needed_entries(params: Params, index: Path, clips: Path) -> Needed:
    """Find the keys of all entries that the stages of ``params`` read or write.

    Args:
        index, clips: directories that the stages `index` and `decode` wrote.
    """
    needed, dataset = Needed(), params.dataset
    needed.keys[hashes.KIND].add(hashes.hashes_key(dataset.clips))
    try:
        rows, _ = read_index(index, dataset.clips)
    except (PipelineError, OSError) as error:
        return needed.without_index(f"there is no index to tell the clips ({_words(error)})")
    if changed := changed_params(read_made_with(index)["params"], index_params(params)):
        return needed.without_index(f"the index tells the clips of other params ({', '.join(changed)})")
    jobs, _ = make_jobs(rows, dataset.segments, dataset.segment_seconds, params.media, Cache(params.cache.place))
    decoded = {each.key for each in jobs.values()}
    for kind in (job.KIND, job.VERDICTS):
        needed.keys[kind] |= decoded
    for name, settings in params.features.items():
        for spec in _specs(needed, clip_encoder.KIND, f"features.{name}", (settings.visual, settings.audio)):
            for device in DEVICES.get(settings.device, (settings.device,)):
                needed.keys[clip_encoder.KIND] |= {feature_key(key, settings, spec, device) for key in decoded}
    for name, tuning in params.finetune.items():
        for spec in _specs(needed, contrastive.KIND, f"finetune.{name}", (tuning.audio,)):
            for device in DEVICES.get(tuning.device, (tuning.device,)):
                tf32 = tuning.precision == "tf32"
                needed.keys[contrastive.KIND] |= {contrastive.audio_key(key, spec, device, tf32) for key in decoded}
    _add_drawn(needed, params, rows, clips, jobs)
    return needed


def _add_drawn(needed: Needed, params: Params, rows: pd.DataFrame, clips: Path, jobs: dict[str, job.Job]) -> None:
    """Add the frames that fine-tuning draws once, of the clips that it would choose."""
    if not params.finetune:
        return
    try:
        chosen = contrastive.select(rows, read_table(clips / "clips.parquet"), jobs)
    except (PipelineError, OSError) as error:
        needed.unknown[contrastive.DRAWN] = f"fine-tuning cannot choose its clips ({_words(error)}); run `dvc repro decode`"
        return
    draws = [lasting_draw(item, settings) for settings in params.finetune.values() for item in chosen.train]
    draws += [contrastive.draw_middle(item) for item in chosen.validation]
    needed.keys[contrastive.DRAWN] |= {contrastive.drawn_key(draw) for draw in draws}


def _specs(needed: Needed, kind: str, place: str, choices: Iterable[EncoderChoice]) -> Iterator[Mapping[str, Any]]:
    """Yield what makes the numbers of each encoder; one whose weights are not here makes the kind unknown."""
    for choice in choices:
        try:
            yield create(choice.encoder, **choice.options).spec()
        except (PipelineError, OSError) as error:
            needed.unknown[kind] = f"{place} has no weights here ({_words(error)})"


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())
