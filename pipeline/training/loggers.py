"""The loggers of ``train.loggers``: Lightning Fabric's own, and Weights & Biases' package, which has none there."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

NEEDED = {"csv": (), "tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}  # by logger, packages of which it needs one


class Logger(Protocol):
    """The part of Lightning's loggers that is used."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...

    def save(self) -> None: ...

    def finalize(self, status: str) -> None: ...


def missing_loggers(names: Iterable[str]) -> list[str]:
    """One sentence for each logger whose package is not installed."""
    return [
        f"train.loggers: {name} needs the package {NEEDED[name][0]}, which is not installed; install it (`pip install -e '.[loggers]'`) or"
        " take it out of the list"
        for name in names
        if NEEDED[name] and not any(_installed(package) for package in NEEDED[name])
    ]


def _installed(package: str) -> bool:
    """Whether a package can be imported; a mere folder of its name, as the loggers make, cannot."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def make_logger(name: str, directory: Path) -> Logger:
    """Start a logger; files of an earlier start are removed."""
    place = directory / name
    shutil.rmtree(place, ignore_errors=True)
    if name == "wandb":
        return WandbLogger(directory)
    from lightning_fabric.loggers import CSVLogger, TensorBoardLogger

    logger = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}[name]
    return logger(directory, name="", version=name)


class WandbLogger:
    """A run of Weights & Biases, by its own package: Fabric has no logger for it."""

    def __init__(self, directory: Path) -> None:
        import wandb

        directory.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project="avel-pipeline", group=directory.parent.name, name=f"{directory.parent.name} {directory.name}", dir=directory
        )

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.run.log(metrics, step=step)

    def save(self) -> None:
        pass

    def finalize(self, status: str) -> None:
        self.run.finish()
