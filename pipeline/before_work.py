"""Run the checks that stages make before their work, without the work, for ``python -m pipeline doctor``."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from pipeline.cache import Cache
from pipeline.config import Params
from pipeline.datasets import build_index, read_index
from pipeline.datasets.base import Index, expected_files
from pipeline.datasets.folding import make_folds
from pipeline.devices import choose_device
from pipeline.disk_room import Writing
from pipeline.encoders import ENCODERS
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.importing import Import
from pipeline.features.room import spec_without_weights, store_room
from pipeline.features.settings import FeatureSet
from pipeline.labels.teachers import file_problems
from pipeline.machine import this_machine
from pipeline.media.clip import GOOD
from pipeline.media.decoding import make_jobs
from pipeline.media.room import decoding_room
from pipeline.methods import METHODS
from pipeline.tables import read_table

INDEX, CLIPS, FEATURES = Path("data/index"), Path("data/clips/clips.parquet"), Path("data/features")


def refusals(params: Params) -> Iterator[tuple[str, str]]:
    """Yield (stage, reason) for every stage that would refuse the data and this machine; the data must be there."""
    index: Index | None = None

    def build() -> None:
        nonlocal index
        index = build_index(params.dataset)
        if params.dataset.folds is not None:
            make_folds(index.rows, params.dataset.folds)

    yield from _reasons("index", build)
    if index is not None:
        splits = pd.Series([row.split for row in index.rows], dtype=object)
        if params.runs and params.dataset.folds is None and not (splits == "train").any():
            yield "train", f"{params.dataset.annotations} has no row of the split train; add some, or remove `runs`"
        facts = [(row.clip, row.split, row.seconds) for row in index.rows]
        rows = pd.DataFrame(facts, columns=["clip", "split", "seconds"]).rename_axis("row").reset_index()
        for label_set, of_labels in params.labels.items():
            yield from ((f"label@{label_set}", problem) for problem in file_problems(label_set, of_labels, index.classes))
        for name, run in params.runs.items():
            config = METHODS.get(run.method).Config(**params.method_settings(name))
            yield from ((f"train@{name}", problem) for problem in config.class_problems(index.classes))
        for name, entry in params.imports.items():
            yield from _reasons(f"import_features@{name}", Import(entry, params.dataset, rows).check)


def will_write(params: Params, root: Path) -> Iterator[tuple[str, Writing]]:
    """Yield (stage, what it will write) for every stage that fills the disk and is not done.

    The data must be there. Without data/index no clip is taken to be in the cache. Features whose encoder is a program are left out: only
    running it would say how large they are.
    """
    dataset, cache = params.dataset, Cache(params.cache.place)
    if (root / INDEX).is_dir():
        rows = read_index(root / INDEX, dataset.clips)[0]
    else:
        facts = [(row.clip, row.split, row.file, row.file, row.start, row.seconds) for row in build_index(dataset, params.media).rows]
        rows = pd.DataFrame(facts, columns=["clip", "split", "file", "sha256", "start", "seconds"]).rename_axis("row").reset_index()
    jobs, _ = make_jobs(expected_files(rows, dataset), dataset.segments, dataset.segment_seconds, params.media, cache)
    yield from (("decode", each) for each in decoding_room(jobs, cache)[1])
    count = int(read_table(root / CLIPS)["status"].isin(GOOD).sum()) if (root / CLIPS).is_file() else len(jobs)
    for name, settings in params.features.items() if jobs else ():
        if programs_in(settings):
            continue
        spec = spec_without_weights(settings, next(iter(jobs.values())))
        yield from ((f"extract@{name}", each) for each in store_room(name, spec, count, root / FEATURES / name, cache))
    for name, entry in params.imports.items():
        importing = Import(entry, dataset, rows)
        yield from (
            (f"import_features@{name}", each) for each in store_room(name, importing.spec, len(importing.entries), root / FEATURES / name)
        )


def programs_in(settings: FeatureSet) -> list[str]:
    """The encoders of a feature set that are programs which a setting names."""
    return [choice.encoder for choice in (settings.visual, settings.audio) if ENCODERS.get(choice.encoder).Config.runs_code]


def unusable_devices(params: Params) -> Iterator[tuple[str, str]]:
    """Yield (setting, reason) for every device that this machine lacks."""
    named = {"train": params.train.device} if params.runs else {}
    for block, entries in (("features", params.features), ("finetune", params.finetune)):
        named |= {f"{block}.{name}": entry.device for name, entry in entries.items()}
    for place, device in named.items():
        yield from _reasons(f"{place}.device", partial(choose_device, device))
    for name, entry in params.finetune.items():
        if entry.device != "cpu" and torch.cuda.is_available() and entry.devices > torch.cuda.device_count():
            yield f"finetune.{name}.devices", f"{entry.devices} are asked for, torch finds {torch.cuda.device_count()} GPUs here"


def emulated_precisions(params: Params) -> Iterator[tuple[str, str]]:
    """Yield (setting, value) for every bfloat16 on the CPU that this x86-64 processor emulates without AVX-512; with it: not measured."""
    if platform.machine() not in {"x86_64", "AMD64"} or "avx512f" in this_machine()["extensions"]:
        return
    named: dict[str, tuple[str, str]] = {"train": (params.train.device, params.train.precision)} if params.runs else {}
    for block, entries in (("features", params.features), ("finetune", params.finetune)):
        named |= {f"{block}.{name}": (entry.device, entry.precision) for name, entry in entries.items()}
    for place, (device, precision) in named.items():
        if precision in {"bfloat16", "bf16-mixed"} and (device == "cpu" or not torch.cuda.is_available()):
            yield f"{place}.precision", precision


def _reasons(about: str, check: Callable[[], object]) -> Iterator[tuple[str, str]]:
    try:
        check()
    except InputProblems as error:
        yield from ((about, problem) for problem in error.problems)
    except (PipelineError, OSError) as error:
        yield about, str(error)
