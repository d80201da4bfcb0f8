"""Run the checks that stages make before their work, without the work, for ``python -m pipeline doctor``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pandas as pd
import torch

from pipeline.config import Params
from pipeline.datasets import build_index
from pipeline.datasets.base import Index
from pipeline.devices import choose_device
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.importing import Import


def refusals(params: Params) -> Iterator[tuple[str, str]]:
    """Yield (stage, reason) for every stage that would refuse the data and this machine; the data must be there."""
    index: Index | None = None

    def build() -> None:
        nonlocal index
        index = build_index(params.dataset)

    yield from _reasons("index", build)
    if index is not None:
        splits = pd.Series([row.split for row in index.rows], dtype=object)
        if params.runs and not (splits == "train").any():
            yield "train", f"{params.dataset.annotations} has no row of the split train; add some, or remove `runs`"
        facts = [(row.clip, row.split, row.seconds) for row in index.rows]
        rows = pd.DataFrame(facts, columns=["clip", "split", "seconds"]).rename_axis("row").reset_index()
        for name, entry in params.imports.items():
            yield from _reasons(f"import_features@{name}", Import(entry, params.dataset, rows).check)


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


def _reasons(about: str, check: Callable[[], object]) -> Iterator[tuple[str, str]]:
    try:
        check()
    except InputProblems as error:
        yield from ((about, problem) for problem in error.problems)
    except (PipelineError, OSError) as error:
        yield about, str(error)
