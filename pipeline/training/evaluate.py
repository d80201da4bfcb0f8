"""A run evaluated: every trained seed predicts val and test, and its task scores them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pipeline.cache import file_sha256
from pipeline.datasets.base import count_lines
from pipeline.devices import choose_device, use_threads
from pipeline.errors import PipelineError
from pipeline.machine import UNKNOWN, joined, this_machine
from pipeline.sealed import write_sealed
from pipeline.tables import write_table
from pipeline.tasks import Task
from pipeline.training.data import SplitData
from pipeline.training.predictions import not_finite_clips, predictions
from pipeline.training.run import RunInputs
from pipeline.training.settings import TrainSettings
from pipeline.training.trained import load_seed, weights_path, write_curves

UNSEEN = "test_unseen"  # test without the clips that stand in train as well, under the same id or another


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
                    raise PipelineError(f"{weights_path(models, seed)}: {clips[0]}; look at their features, or train again")
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
        "weights": {str(seed): file_sha256(weights_path(models, seed)) for seed in inputs.run.seeds},
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
