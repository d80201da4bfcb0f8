"""The schema of params.yaml: every block and key is checked before any work, and all problems are reported at once.

>>> params = load(Path("params.yaml"))
>>> params.media.frames_per_second
2.0
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from pipeline.cache.problems import problems as cache_problems
from pipeline.cache.settings import CacheSettings
from pipeline.contrastive.problems import problems as finetune_problems
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.datasets import DatasetSettings
from pipeline.datasets.problems import problems as dataset_problems
from pipeline.errors import InputProblems
from pipeline.features.importing.settings import ImportSet
from pipeline.features.problems import problems as feature_problems
from pipeline.features.settings import FeatureSet
from pipeline.labels.problems import problems as label_problems
from pipeline.labels.settings import LabelSet
from pipeline.media.settings import MediaSettings
from pipeline.methods.problems import problems as method_problems
from pipeline.project import elsewhere
from pipeline.registry import UnknownName, suggest
from pipeline.report.problems import problems as report_problems
from pipeline.report.settings import ReportSettings
from pipeline.schema import schema_problems, with_named_keys
from pipeline.settings import Name, Settings
from pipeline.synth.settings import SynthSettings
from pipeline.text import printable
from pipeline.training.choices import method_settings
from pipeline.training.problems import problems as run_problems
from pipeline.training.settings import Run, TrainSettings
from pipeline.yaml_files import read_yaml

Entry = TypeVar("Entry")
# Checks across blocks: names of encoders, methods, tasks and feature sets, and the settings these own.
ROOMS = (
    dataset_problems,
    feature_problems,
    finetune_problems,
    label_problems,
    method_problems,
    run_problems,
    report_problems,
    cache_problems,
)


def _good_address(address: str) -> str:
    if not re.fullmatch(r"auto|local|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", address):
        raise ValueError("give auto, local, or the HOST:PORT that `ray start --head` printed")
    return address


class MachineSettings(Settings):
    """Settings for the machine's capacity; they change no number, and no stage depends on them."""

    seeds_at_once: int = Field(
        1,
        ge=1,
        le=1024,
        description="seeds of a run trained side by side, on the CPU or on one GPU; above 1, each in a process of its own. They share the"
        " features on a GPU; elsewhere each has a copy, or if these do not fit, reads from disk. For speed, at most cores / train.threads."
        " With engine: ray, that many share each GPU",
    )
    engine: Literal["local", "ray"] = Field(
        "local",
        description="where clips are decoded and encoded, and seeds trained: this machine | the nodes of a Ray cluster (docs/scale.md)",
    )
    address: Annotated[str, AfterValidator(_good_address)] = Field(
        "auto",
        description="with engine: ray, auto: the cluster of $RAY_ADDRESS, or that `ray start` began on this machine, else one of its own |"
        " local: one of its own | HOST:PORT: that cluster",
    )


class Params(Settings):
    """The content of params.yaml, one block per stage; a block that dvc.yaml tracks is required, if only as {}."""

    synth: dict[Name, SynthSettings] = Field(description="worlds to write below data/raw/; {} if you have your own clips")
    dataset: DatasetSettings = Field(description="annotations and clips")
    media: MediaSettings = Field(description="how files are decoded")
    finetune: dict[Name, FinetuneSettings] = Field(description="encoders to fine-tune, by a name of your choice")
    features: dict[Name, FeatureSet] = Field(description="feature sets, by a name of your choice")
    imports: dict[Name, ImportSet] = Field(description="published features to import, by a name of your choice")
    labels: dict[Name, LabelSet] = Field(description="segment labels to make from teachers, by a name of your choice")
    methods: dict[Name, dict[str, Any]] = Field(description="settings of each method, by its registered name")
    train: TrainSettings = Field(description="settings that all runs share")
    runs: dict[Name, Run] = Field(description="runs to train and evaluate, by a name of your choice")
    report: ReportSettings = Field(description="tables and page")
    cache: CacheSettings = Field(CacheSettings(), description="where decoded clips and features are kept")
    machine: MachineSettings = Field(MachineSettings(), description="the machine's capacity")

    def method_settings(self, name: str) -> dict[str, Any]:
        """The settings of a run's method: the method's block with the run's overrides merged in."""
        return method_settings(self.methods, self.runs[name])

    def features_of(self, name: str) -> str:
        """The entry whose features a run's feature set has: itself; for a label set, the one it names."""
        return self.labels[name].features if name in self.labels else name


def pick(block: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """Look up an entry of a block by name.

    Raises:
        UnknownName: no such entry; the message has the nearest name in the block.
    """
    if name not in block:
        raise UnknownName(f"unknown {kind} {name!r}{suggest(name, block)}")
    return block[name]


def load(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        InputProblems: every problem of the file, each with the path of its key and, for an unknown name, the nearest valid one.
    """
    if not path.is_file():
        raise InputProblems(str(path), [f"no such file; {elsewhere(path.parent) or 'python -m pipeline use SUITE takes one of suites/'}"])
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise InputProblems(str(path), [str(error)]) from None
    if not isinstance(content, Mapping):
        raise InputProblems(str(path), ["the file is not a mapping of blocks (synth, dataset, media, ...)"])
    problems: list[str] = []
    content = with_named_keys(content, "", problems)
    problems += schema_problems(Params, content, "")
    problems += [problem for room in ROOMS for problem in room(content)]
    if problems:
        raise InputProblems(str(path), [printable(problem) for problem in problems])  # a key may hold control characters
    params = Params.model_validate(content)
    return params.model_copy(update={"media": params.media.with_sounds(params.dataset.sounds)})
