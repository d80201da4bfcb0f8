"""Where a run's features are while it trains: in memory, once for all its seeds, or in the store.

``train.resident_gb`` limits what may be in memory. It changes no number.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor

from pipeline.training.data import SplitData
from pipeline.training.room import free_memory
from pipeline.training.run import RunInputs
from pipeline.training.settings import TrainSettings
from pipeline.training.streams import Resident

GB = 10**9
SHARE = 0.6  # of the free memory that features may take; the rest is for networks, gradients and batches

Splits = dict[str, SplitData]


def training_splits(inputs: RunInputs, settings: TrainSettings) -> Splits:
    """The splits that a training reads (train, val and a watched test), their features still in the store."""
    watched = {"test": inputs.split("test")} if settings.published_protocol else {}
    return {"train": inputs.training_split(), "val": inputs.split("val"), **watched}


def feature_bytes(splits: Mapping[str, SplitData]) -> int:
    """Room that the features of splits take in memory."""
    return sum(data.stored.bytes for data in splits.values())


def may_be_resident(name: str, splits: Splits, device: torch.device, settings: TrainSettings, copies: int = 1) -> bool:
    """Whether so many copies of the splits' features may be in the device's memory; a line says so if not."""
    limit = SHARE * free_memory(device) if settings.resident_gb is None else settings.resident_gb * GB
    size = copies * feature_bytes(splits)
    if size > limit:
        times = f" in {copies} copies" if copies > 1 else ""
        print(
            f"{name}: features are read from disk batch by batch: they take {size / GB:.3g} GB{times}, and {limit / GB:.3g} GB may be in"
            " memory (train.resident_gb)",
            flush=True,
        )
    return size <= limit


def memory_settings(inputs: RunInputs, splits: Splits, resident: bool, at_once: int = 1) -> list[str]:
    """Name the settings to lower where memory runs out, first those that change no number."""
    found = [f"machine.seeds_at_once (here {at_once})"] if at_once > 1 else []
    if resident:
        found.append(f"train.resident_gb (the features take {feature_bytes(splits) / GB:.2g} GB; 0 reads them batch by batch)")
    return [*found, f"recipe.batch_size of {inputs.run.method} (here {inputs.config.recipe.batch_size})"]


def placed(splits: Splits, device: torch.device, resident: bool) -> Splits:
    """Load the features of every split, or leave them in the store, to be read batch by batch."""
    there = {name: replace(data.stored, device=device) for name, data in splits.items()}
    return {name: data.to(device, there[name].resident() if resident else there[name]) for name, data in splits.items()}


class SharedFeatures:
    """One copy of the features on a GPU for the processes of several seeds, handed out by CUDA IPC.

    The process that loaded them must keep this object while others use it.

    Args:
        splits: resident on a GPU.
    """

    def __init__(self, splits: Splits) -> None:
        self.tensors = {name: dict(data.features.tensors) for name, data in splits.items() if isinstance(data.features, Resident)}
        self.handles: bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Make handles for one process; a driver that cannot share memory leaves it without."""
        try:
            return {"handles": bytes(ForkingPickler.dumps(self.tensors))}  # torch registers how it sends a tensor
        except RuntimeError as error:
            print(f"the GPU's memory cannot be shared, so features are read from disk: {' '.join(str(error).split())[:200]}", flush=True)
            return {"handles": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.handles = state["handles"]

    def placed(self, splits: Splits, device: torch.device) -> Splits:
        """Give the splits of another process the shared features; where they cannot be opened, leave them in the store."""
        try:
            found: dict[str, dict[str, Tensor]] | None = pickle.loads(self.handles) if self.handles else None
        except RuntimeError as error:
            print(f"the GPU's memory cannot be shared, so features are read from disk: {' '.join(str(error).split())[:200]}", flush=True)
            found = None
        if found is None:
            return placed(splits, device, resident=False)
        return {name: data.to(device, Resident(found[name])) for name, data in splits.items()}
