"""Evaluate a run: every trained seed (of every fold) predicts val and test, and the task scores the predictions."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pipeline.cache import file_sha256
from pipeline.datasets.base import count_lines
from pipeline.devices import choose_device, use_precision, use_threads
from pipeline.errors import PipelineError
from pipeline.machine import UNKNOWN, joined, this_machine
from pipeline.sealed import write_sealed
from pipeline.tables import write_table
from pipeline.tasks import Task
from pipeline.training.data import SplitData
from pipeline.training.members import Member, members_of
from pipeline.training.placement import may_be_resident, memory_settings, placed
from pipeline.training.pooling import pooled, pooled_scores
from pipeline.training.predictions import not_finite_clips, predictions
from pipeline.training.room import explaining_memory
from pipeline.training.run import RunInputs
from pipeline.training.settings import TrainSettings
from pipeline.training.trained import load_seed, weights_path, write_curves

UNSEEN = "test_unseen"  # test without the clips that are also in train, under the same id or another


def evaluate_run(inputs: RunInputs, models: Path, settings: TrainSettings, directory: Path) -> None:
    """Write ``predictions.parquet`` (the task's table of val and test, by seed) and ``metrics.json``.

    If clips of test rows are also in train, by id or by bytes (AVE has 8 such rows, with other labels), test is scored without them too:
    ``test_unseen``. With folds, test is all clips, each predicted by the network of its fold, and so is val.
    """
    use_threads(settings.threads)
    device = choose_device(settings.device)
    use_precision(device, settings.precision)
    folds = [Fold.predicted(inputs, fold, models, device, settings) for fold in dict.fromkeys(each.fold for each in inputs.members)]
    splits = {name: pooled([fold.splits[name] for fold in folds]) for name in ("val", "test")}
    tables: list[pd.DataFrame] = []
    metrics: dict[str, Any] = {name: {} for name in splits}
    # the clips of a fold share no bytes with those that it is trained on
    unseen = rows_unseen_in_training(inputs, splits["test"]) if inputs.folds is None else torch.arange(len(splits["test"]))
    if 0 < len(unseen) < len(splits["test"]):
        metrics[UNSEEN] = {}
    for seed in inputs.run.seeds:
        for name, data in splits.items():
            if len(data):
                parts = [scores for fold in folds if (scores := fold.scores[name].get(seed)) is not None]
                scores = pooled_scores(parts, [fold.splits[name] for fold in folds])
                decided = inputs.task.decide(scores, data.mask)
                known = splits["val"] if name == "test" and inputs.folds is None else None  # with folds val are the same clips
                metrics[name][str(seed)] = score_rows(inputs.task, data, decided, torch.arange(len(data)), known)
                if name == "test" and UNSEEN in metrics:
                    with suppress(PipelineError):  # the remaining rows may have no queries (cml): no reason to fail the run
                        metrics[UNSEEN][str(seed)] = score_rows(inputs.task, data, decided, unseen, known)
                lines = inputs.task.table(scores, decided, data.targets, data.mask)
                numbers = lines.pop("clip_number")
                of_lines = {"clip": [data.clips[number] for number in numbers], "row": [data.rows[number] for number in numbers]}
                tables.append(lines.assign(seed=seed, split=name, **of_lines))
    if not tables:
        raise PipelineError(f"{inputs.name}: neither val nor test has a row with features; there is nothing to evaluate")
    if not metrics.get(UNSEEN):
        metrics.pop(UNSEEN, None)
    write_table(pd.concat(tables, ignore_index=True), directory / "predictions.parquet")
    trained = {each: next(fold for fold in folds if fold.number == each.fold).facts[each.seed] for each in inputs.members}
    document: dict[str, Any] = {
        "task": inputs.run.task,
        "method": inputs.run.method,
        "features": inputs.run.features,
        "headline": inputs.task.HEADLINE,
        "parameters": folds[0].parameters,
        "weights": {each.key: file_sha256(weights_path(models, *each)) for each in inputs.members},
        "clips": {name: {"evaluated": len(data), "without features": data.missing} for name, data in splits.items()}
        | ({UNSEEN: {"evaluated": len(unseen), "without features": []}} if UNSEEN in metrics else {}),
        "seeds": metrics,
        "made_with": made_with(trained, inputs.made_with, this_machine(device)),
    }
    if inputs.folds is not None:
        groups = list(dict.fromkeys(inputs.folds.clips[clip].group for clip in splits["test"].clips))
        by_seed = {str(seed): [fold.headline(inputs.task, seed) for fold in folds] for seed in inputs.run.seeds}
        document["folds"] = {"number": inputs.folds.number, "by": inputs.folds.facts["by"], "groups": len(groups), "test": by_seed}
        of_row = zip(splits["test"].rows, splits["test"].clips, strict=True)
        document["groups"] = {str(row): groups.index(inputs.folds.clips[clip].group) for row, clip in of_row}
    if seen := len(splits["test"]) - len(unseen):
        document["clips"]["test"]["in train"] = seen
    films, windows = films_of_rows(inputs, splits["test"])
    if films < windows:
        document["clips"]["test"] |= {"films": films, "windows": windows}
    # copied here so that the report needs neither weights nor features
    write_curves(directory, {each: trained[each]["history"] for each in inputs.members})
    document["curves"] = file_sha256(directory / "curves.csv")
    inputs.store.check_unchanged()
    write_sealed(directory / "metrics.json", document)
    shutil.copyfile(inputs.store.directory / "spec.json", directory / "features.json")


@dataclass(frozen=True)
class Fold:
    """Val and test of one fold (or the only ones), as every seed's network of it scores them.

    number: of the fold; None without folds. facts: stored with the weights, by seed. scores: by split and seed, of splits with rows.
    """

    number: int | None
    splits: dict[str, SplitData]
    facts: dict[int, dict[str, Any]]
    scores: dict[str, dict[int, Any]]
    parameters: int

    @classmethod
    def predicted(cls, inputs: RunInputs, number: int | None, models: Path, device: torch.device, settings: TrainSettings) -> Fold:
        """Predict val and test with every seed.

        Raises:
            PipelineError: a seed was not trained or does not fit the index, a score is not finite, or memory ran out.
        """
        fold = inputs.of_fold(number)
        dtype = torch.float64 if settings.precision == "64-true" else torch.float32
        splits = {name: fold.split(name) for name in ("val", "test")}
        resident = may_be_resident(inputs.name, splits, device, settings)
        to_lower = memory_settings(inputs, splits, resident)
        with explaining_memory(inputs.name, device, to_lower):
            there = placed(splits, device, resident)
        found, trained, parameters = {name: dict[int, Any]() for name in splits}, dict[int, dict[str, Any]](), 0
        for member in members_of(inputs.run.seeds, None if number is None else (number,)):
            method, facts = load_seed(models, *member)
            if facts["classes"] != inputs.classes:
                raise PipelineError(f"{models}/{member.stem}: trained on the classes {facts['classes']}, the index has {inputs.classes}")
            parameters = sum(weight.numel() for weight in method.parameters())
            trained[member.seed] = facts | {"settings": method.config.model_dump(mode="json")}
            method.to(device=device, dtype=dtype)
            for name, data in splits.items():
                if len(data):
                    with explaining_memory(f"{inputs.name}, {member}", device, to_lower):
                        scores, _ = predictions(method, inputs.task, there[name], dtype, method.config.recipe.batch_size)
                    if clips := count_lines(f"scores that are not finite, of the {name} clips", not_finite_clips(scores, data)):
                        raise PipelineError(f"{weights_path(models, *member)}: {clips[0]}; check their features, or train again")
                    found[name][member.seed] = scores
        return cls(number, splits, trained, found, parameters)

    def headline(self, task: Task, seed: int) -> float | None:
        """The headline of one seed on the fold's test alone; None where it cannot be scored."""
        data = self.splits["test"]
        if not len(data):
            return None
        decided = task.decide(self.scores["test"][seed], data.mask)
        with suppress(PipelineError):
            return score_rows(task, data, decided, torch.arange(len(data)))[task.HEADLINE]
        return None


def made_with(trained: Mapping[Member, Mapping[str, Any]], evaluated: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the params, which the report compares with today's, and the machines that it lists.

    Args:
        trained: the facts stored with the weights of each training; an earlier version stored neither params nor machines.
        evaluated: ``made_with`` of the index and the features used for the evaluation.

    Returns:
        ``params``: each distinct set of params among the seeds and the evaluation. ``machines``: every machine that took part, by kind of
        work, and for the training by seed.
    """
    sets: list[dict[str, Any]] = []
    for facts in trained.values():
        params = {**facts.get("made_with", {}).get("params", {}), "settings": facts["settings"]}
        sets = joined(sets, params | ({"train": facts["train"]} if "train" in facts else {}))
    if not any(evaluated.get("params", {}).items() <= params.items() for params in sets):
        sets.append(evaluated["params"])
    of_inputs = dict(evaluated.get("machines", {}))
    for facts in trained.values():  # training and evaluation may use features made on different machines
        for work, machines in facts.get("made_with", {}).get("machines", {}).items():
            of_inputs[work] = joined(of_inputs.get(work, []), *machines)
    training: dict[str, list[dict[str, Any]]] = {}
    for member, facts in trained.items():
        training[str(member.seed)] = joined(training.get(str(member.seed), []), *(facts.get("machines") or [UNKNOWN]))
    return {"params": sets, "machines": {**of_inputs, "training": training, "evaluation": [machine]}}


def rows_unseen_in_training(inputs: RunInputs, data: SplitData) -> Tensor:
    """Positions of a split's rows whose clip is not in the training split.

    A clip is also in it if a training clip with another id is the same window of the same bytes.
    """
    in_train = inputs.index["split"] == "train"
    seen = inputs.index["clip"].isin(inputs.index.loc[in_train, "clip"])
    if "sha256" in inputs.index:  # unknown for clips without a file
        content = inputs.index["sha256"].where(inputs.index["sha256"].notna()) + inputs.index["start"].map(" {}".format)
        seen |= content.notna() & content.isin(content[in_train])
    unseen = set(inputs.index.loc[~seen, "row"])
    return torch.tensor([position for position, row in enumerate(data.rows) if row in unseen], dtype=torch.int64)


def films_of_rows(inputs: RunInputs, data: SplitData) -> tuple[int, int]:
    """Count the films of a split's rows, and their windows; rows without a file are not counted."""
    if not {"file", "start"} <= set(inputs.index.columns):
        return 0, 0
    rows = inputs.index[inputs.index["row"].isin(data.rows) & inputs.index["file"].notna()]
    return rows["file"].nunique(), len(rows[["file", "start"]].drop_duplicates())


def score_rows(task: Task, data: SplitData, decided: Any, rows: Tensor, known: SplitData | None = None) -> dict[str, Any]:
    """Score some rows of a split with the task's metrics, given the decisions for all rows.

    Args:
        known: the split from which trivial answers may learn; None, or one without rows: no such answers.
    """
    truth, mask = data.targets[rows], data.mask[rows]
    metrics = task.score(decided[rows], truth, mask, data.num_classes, data.segment_seconds)
    learned = task.prior_scores(truth, mask, known.targets, known.mask) if known is not None and len(known) else {}
    if "trivial" in learned:
        learned["trivial"] = metrics["trivial"] | learned["trivial"]
    return metrics | learned
