"""One run of ``runs``: what it is trained and evaluated on, its trained seeds read back, and their evaluation."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pipeline.cache import file_sha256, fingerprint
from pipeline.closure import digests
from pipeline.datasets.base import count_lines
from pipeline.devices import choose_device, use_threads
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.store import MODALITIES, FeatureStore
from pipeline.machine import UNKNOWN, joined, this_machine
from pipeline.methods import METHODS, Method, MethodConfig, create
from pipeline.sealed import read_sealed, write_sealed
from pipeline.tables import write_table
from pipeline.tasks import TASKS, Task
from pipeline.tensors import load_tensors
from pipeline.training.choices import TRAINING_PLUMBING, chosen_code
from pipeline.training.data import SplitData, label_stream_problems, load_split
from pipeline.training.predictions import not_finite_clips, predictions
from pipeline.training.settings import Run, TrainSettings

UNSEEN = "test_unseen"  # test without the clips that stand in train as well, under the same id or another


@dataclass
class RunInputs:
    """Everything a run is trained and evaluated on."""

    name: str
    run: Run
    settings: dict[str, Any]  # of the method, overrides applied
    store: FeatureStore
    index: pd.DataFrame
    classes: list[str]
    made_with: dict[str, Any] = field(default_factory=dict)  # params and machines that made index and features: pipeline.made_with

    @property
    def task(self) -> Task:
        return TASKS.get(self.run.task)

    def build(self) -> Method:
        return build(self.run.method, self.store.shapes, len(self.classes), self.settings)

    @property
    def config(self) -> MethodConfig:
        return METHODS.get(self.run.method).Config(**self.settings)

    @property
    def first_method(self) -> str:
        """Method of the network that ``config.first`` asks for."""
        return self.config.first_method or self.run.method

    def split(self, name: str) -> SplitData:
        """A split to predict and to score: its targets tell everything."""
        return load_split(self.store, self.index, self.classes, name, self.task, streams=self.config.streams)

    def training_split(self) -> SplitData:
        """The split to train on: its targets tell what the method's supervision allows, and nothing else."""
        streams, labels = self.config.streams, self.config.label_streams
        data = load_split(
            self.store, self.index, self.classes, "train", self.task, self.config.training_labels, (*streams, *labels)
        )  # fmt: skip
        if problems := label_stream_problems(data, labels):
            raise InputProblems(f"{self.name}: labels of segments in {self.store.directory}", problems)
        return data

    def fingerprint(self, train: TrainSettings) -> str:
        """Changes whenever weights trained before would not be the weights trained now."""
        code = digests([Path(__file__).with_name("train.py"), *chosen_code(self.run, self.settings)], cut=TRAINING_PLUMBING)
        features = [file_sha256(self.store.directory / name) for name in ("index.parquet", "spec.json")]  # hold a key of every clip's
        files = {setting: file_sha256(path) for setting, path in self.config.files.items()}
        settings = self.run.model_dump(), self.settings, train.model_dump()
        return fingerprint(code, settings, features, files, self.annotations(), self.classes)

    def annotations(self) -> list[list[Any]]:
        """What a training reads of the index, as plain values: all but where a clip's file lies and what it weighs."""
        plain = self.index.drop(columns=["file", "bytes", "sha256"], errors="ignore")
        return json.loads(plain.to_json(orient="values", double_precision=15))


def build(name: str, shapes: Mapping[str, tuple[int, ...]], num_classes: int, settings: Mapping[str, Any]) -> Method:
    """A method for the streams of a feature set, by name the shape of one segment."""
    others = {stream: shape for stream, shape in shapes.items() if stream not in MODALITIES}
    return create(
        name, visual_shape=shapes["visual"], audio_shape=shapes["audio"], num_classes=num_classes, other_shapes=others, **settings
    )  # fmt: skip


def load_seed(directory: Path, seed: int) -> tuple[Method, dict[str, Any]]:
    """(method in eval mode with its trained weights, the facts stored beside them).

    Raises:
        PipelineError: the seed was not trained, what was stored of it is damaged or not finite, or the weights do not fit the method;
            says which are missing or unexpected.
    """
    path = directory / f"seed-{seed}.json"
    if not path.is_file():
        raise PipelineError(f"{directory}: seed {seed} was not trained; run `dvc repro`")
    facts = read_sealed(path)
    shapes = {name: tuple(shape) for name, shape in facts["shapes"].items()}
    method = build(facts["method"], shapes, len(facts["classes"]), facts["settings"])
    weights, _ = load_tensors(directory / f"seed-{seed}.safetensors")
    if names := count_lines("tensors with numbers that are not finite", method.not_finite(weights)):
        raise PipelineError(f"{directory}/seed-{seed}.safetensors: {names[0]}; remove {directory} and train again")
    try:
        method.load_kept(weights)
    except RuntimeError as error:
        raise PipelineError(f"{directory}/seed-{seed}.safetensors does not fit {facts['method']}: {error}") from None
    return method.eval(), facts


def write_curves(directory: Path, histories: Mapping[int, Sequence[Mapping[str, Any]]]) -> None:
    """``curves.csv``: seed, epoch and every recorded quantity, one line per epoch; ``histories`` by seed."""
    lines = [{"seed": seed, **line} for seed, history in histories.items() for line in history]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with open(directory / "curves.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def evaluate_run(inputs: RunInputs, models: Path, settings: TrainSettings, directory: Path) -> None:
    """Write ``predictions.parquet`` (the task's table of val and test, by seed) and ``metrics.json``.

    Where test has rows whose clip stands in train as well (AVE has 8, under other labels), by its id or by its bytes, test is scored
    without them, too: ``test_unseen``.
    """
    use_threads(settings.threads)
    device = choose_device(settings.device)
    dtype = torch.float64 if settings.precision == "64-true" else torch.float32
    splits = {name: inputs.split(name) for name in ("val", "test")}
    tables: list[pd.DataFrame] = []
    metrics: dict[str, Any] = {name: {} for name in splits}
    unseen = rows_unseen_in_training(inputs, splits["test"])
    if 0 < len(unseen) < len(splits["test"]):
        metrics[UNSEEN] = {}
    parameters, trained = 0, dict[str, dict[str, Any]]()
    for seed in inputs.run.seeds:
        method, facts = load_seed(models, seed)
        if facts["classes"] != inputs.classes:
            raise PipelineError(f"{models}/seed-{seed}: trained on the classes {facts['classes']}, the index has {inputs.classes}")
        parameters = sum(weight.numel() for weight in method.parameters())
        trained[str(seed)] = facts | {"settings": method.config.model_dump(mode="json")}
        method.to(device=device, dtype=dtype)
        for name, data in splits.items():
            if len(data):
                scores, decided = predictions(method, inputs.task, data.to(device), dtype, method.config.recipe.batch_size)
                if clips := count_lines(f"scores that are not finite, of the {name} clips", not_finite_clips(scores, data)):
                    raise PipelineError(f"{models}/seed-{seed}.safetensors: {clips[0]}; look at their features, or train again")
                metrics[name][str(seed)] = score_rows(inputs.task, data, decided, torch.arange(len(data)))
                if name == "test" and UNSEEN in metrics:
                    with suppress(PipelineError):  # what is left may ask nothing (cml); the run has its number all the same
                        metrics[UNSEEN][str(seed)] = score_rows(inputs.task, data, decided, unseen)
                lines = inputs.task.table(scores, decided, data.targets, data.features.mask)
                numbers = lines.pop("clip_number")
                of_lines = {"clip": [data.clips[number] for number in numbers], "row": [data.rows[number] for number in numbers]}
                tables.append(lines.assign(seed=seed, split=name, **of_lines))
    if not tables:
        raise PipelineError(f"{inputs.name}: neither val nor test has a row with features; there is nothing to evaluate")
    if not metrics.get(UNSEEN):
        metrics.pop(UNSEEN, None)
    write_table(pd.concat(tables, ignore_index=True), directory / "predictions.parquet")
    document: dict[str, Any] = {
        "task": inputs.run.task,
        "method": inputs.run.method,
        "features": inputs.run.features,
        "headline": inputs.task.HEADLINE,
        "parameters": parameters,
        "weights": {str(seed): file_sha256(models / f"seed-{seed}.safetensors") for seed in inputs.run.seeds},
        "clips": {name: {"evaluated": len(data), "without features": data.missing} for name, data in splits.items()}
        | ({UNSEEN: {"evaluated": len(unseen), "without features": []}} if UNSEEN in metrics else {}),
        "seeds": metrics,
        "made_with": made_with(trained, inputs.made_with, this_machine(device)),
    }
    if seen := len(splits["test"]) - len(unseen):
        document["clips"]["test"]["in train"] = seen
    # so that the report needs neither weights nor features
    write_curves(directory, {seed: trained[str(seed)]["history"] for seed in inputs.run.seeds})
    document["curves"] = file_sha256(directory / "curves.csv")
    write_sealed(directory / "metrics.json", document)
    shutil.copyfile(inputs.store.directory / "spec.json", directory / "features.json")


def made_with(trained: Mapping[str, Mapping[str, Any]], evaluated: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """What the report holds against today's params and says of machines.

    Args:
        trained: by seed, what stands beside its weights; an earlier version wrote neither params nor machines there.
        evaluated: ``made_with`` of the index and the features that were scored on.

    Returns:
        ``params``: every different set of params among the seeds and the evaluation; ``machines``: by work done, and for the training by
        seed, each machine that took part.
    """
    sets: list[dict[str, Any]] = []
    for facts in trained.values():
        params = {**facts.get("made_with", {}).get("params", {}), "settings": facts["settings"]}
        sets = joined(sets, params | ({"train": facts["train"]} if "train" in facts else {}))
    if not any(evaluated.get("params", {}).items() <= params.items() for params in sets):
        sets.append(evaluated["params"])
    of_inputs = dict(evaluated.get("machines", {}))
    for facts in trained.values():  # trained on features made elsewhere than those evaluated on
        for work, machines in facts.get("made_with", {}).get("machines", {}).items():
            of_inputs[work] = joined(of_inputs.get(work, []), *machines)
    training = {seed: facts.get("machines") or [UNKNOWN] for seed, facts in trained.items()}
    return {"params": sets, "machines": {**of_inputs, "training": training, "evaluation": [machine]}}


def rows_unseen_in_training(inputs: RunInputs, data: SplitData) -> Tensor:
    """Positions of the rows of a split whose clip is in no row of the training split, nor under another id the same window of its bytes."""
    in_train = inputs.index["split"] == "train"
    seen = inputs.index["clip"].isin(inputs.index.loc[in_train, "clip"])
    if "sha256" in inputs.index:  # unknown of clips without a file
        content = inputs.index["sha256"].where(inputs.index["sha256"].notna()) + inputs.index["start"].map(" {}".format)
        seen |= content.notna() & content.isin(content[in_train])
    unseen = set(inputs.index.loc[~seen, "row"])
    return torch.tensor([position for position, row in enumerate(data.rows) if row in unseen], dtype=torch.int64)


def score_rows(task: Task, data: SplitData, decided: Any, rows: Tensor) -> dict[str, Any]:
    """The task's metrics on some rows of a split, from what was decided for all of them."""
    return task.score(decided[rows], data.targets[rows], data.features.mask[rows], data.num_classes, data.segment_seconds)
