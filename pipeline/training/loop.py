"""The training loop of all methods: seeded, resumable at any step, selected on validation.

On a CPU, the same seed on the same machine gives the same weights, even if the run was killed in between. A checkpoint holds everything
the next step depends on: model, optimizer, schedules, random state, the order of the epoch and the position in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pipeline.batch import Batch
from pipeline.datasets.base import count_lines
from pipeline.epochs import LoopState, ResumableLoop
from pipeline.errors import PipelineError
from pipeline.methods import Method, Progress
from pipeline.methods.base import Recipe
from pipeline.tasks import Task
from pipeline.training.ahead import StepsAhead, fused
from pipeline.training.average import WeightAverage
from pipeline.training.capture import own_stream, runs_ahead
from pipeline.training.data import SplitData
from pipeline.training.live import NOT_FINITE, LiveMetrics, save_not_finite
from pipeline.training.optimizer import optimizer_of, schedules_of
from pipeline.training.predictions import not_finite_clips, predictions, score_split
from pipeline.training.progress import Bar, Epochs
from pipeline.training.settings import TrainSettings
from pipeline.training.steps import Fault, Steps, StepsInTurn


@dataclass
class TrainingState(LoopState):
    """The state of a seed's training."""

    order: Tensor | None = None  # (N,) of the running epoch; None between epochs
    sums: dict[str, float] | None = None  # loss terms of the running epoch, summed over the clips of its steps
    taken: int = 0  # number of these clips, without those of skipped steps
    skipped: int = 0  # steps skipped for a loss or a gradient that is not finite
    faults: list[str] = field(default_factory=list)  # a sentence for each skipped step, and for each epoch that could not be kept
    best_weights: dict[str, Tensor] | None = None
    calibrated: dict[str, Tensor] | None = None  # the method's buffers, once calibrated
    seconds: float = 0.0  # of training, without the time between an interruption and the resumption


class Trainer(ResumableLoop[TrainingState]):
    """Trains one method with one seed.

    Args:
        method: freshly built, its weights initialized under the seed.
        task: decides and scores predictions.
        train, validation: placed for the device already; with an empty ``validation`` the last epoch is kept.
        watched: a split (test) whose headline metric is recorded after every epoch, for the papers' protocol; it selects nothing.
        checkpoint: file to resume from and to write to.
        live: directory of the live metrics (DVCLive).
        bar: factory of the progress bar, called like :class:`Bar`.
    """

    def __init__(
        self, fabric: Fabric, method: Method, task: Task, train: SplitData, validation: SplitData, settings: TrainSettings,
        checkpoint: Path, live: Path, name: str, watched: SplitData | None = None, bar: Callable[..., Any] = Bar,
    ) -> None:  # fmt: skip
        if not len(train):
            raise PipelineError(f"{name}: no row of the training split has features; check the index and the status of the clips")
        recipe: Recipe = method.config.recipe
        super().__init__(TrainingState(), recipe.epochs, len(train), checkpoint, settings.checkpoint_seconds)
        self.fabric, self.task, self.train, self.validation, self.settings, self.recipe = fabric, task, train, validation, settings, recipe
        self.live, self.name, self.watched, self.bar = live, name, watched, bar
        if method.config.calibrated_after is not None and not len(validation):
            raise PipelineError(f"{name}: thresholds are selected on validation, but no validation clip has features")
        self.dtype = torch.float64 if settings.precision == "64-true" else torch.float32
        ahead = runs_ahead(fabric.device)
        optimizer = optimizer_of(recipe, method, **(fused(recipe.optimizer) if ahead else {}))
        if settings.compile:
            # Only ``losses``: the loop calls it through ``steps``, and never calls ``forward``.
            method.__dict__["losses"] = MethodType(torch.compile(type(method).losses), method)
        self.method = method
        self.model, self.optimizer = fabric.setup(method, optimizer)
        self.model.mark_forward_method("predict")
        steps_of_epoch = math.ceil(len(train) / recipe.batch_size)
        self.by_epoch, self.by_iteration = schedules_of(recipe, self.optimizer, steps_of_epoch)
        self.average = None if recipe.ema is None else WeightAverage(method, recipe.ema, recipe.ema_warmup)
        parts = fabric, method, self.model, self.optimizer, recipe.clip_norm, self.average
        self.stepper: Steps = StepsAhead(*parts, settings.graphs == "auto", self._say) if ahead else StepsInTurn(*parts)
        self.started = time.monotonic()
        self.shown: Any = None  # the bar, once there is one

    def _say(self, line: str) -> None:
        if self.shown is None:
            print(f"{self.name}: {line}", flush=True)
        else:
            self.shown.say(line)

    def run(self) -> TrainingState:
        """Train to the last epoch; return the state, with the weights of the best validation epoch.

        Raises:
            SystemExit: 143 after SIGTERM, with a checkpoint written.
            PipelineError: more than ``train.nonfinite_patience`` steps had a loss or gradient that is not finite (the message names the
                clips of the last one), or no epoch can be kept.
        """
        self._restore()
        (self.live / NOT_FINITE).unlink(missing_ok=True)  # left by an earlier start
        self.started = time.monotonic() - self.state.seconds
        live = LiveMetrics(self.live, self.state.history, self.settings.loggers)
        bar = self.shown = self.bar(desc=self.name, total=self.epochs, initial=self.state.epoch)
        epochs = Epochs(self.task.HEADLINE, self.recipe.selection, self.epochs, self.state.epoch)

        def show() -> None:
            live.log(self.state.history[-1])
            bar.epoch(*epochs.told(self.state.history, self.state.best_epoch))

        try:
            with self.watching(), live, bar, own_stream(self.fabric.device):
                self.run_epochs(show)
                bar.say(epochs.summary(self.state.history, self.state.best_epoch, time.monotonic() - self.started))
        finally:
            self.stepper.release()
        if self.state.best_weights is None:
            raise PipelineError(
                f"{self.name}: no epoch can be kept; lower the learning rate or check the clips: {'; '.join(self.state.faults)}"
            )
        if self.method.config.calibrated_after == 0:
            self.method.load_kept(self.state.best_weights)
            self.state.calibrated = self._calibrated()
        if self.state.calibrated is not None:
            self.state.best_weights |= self.state.calibrated
        self.state.seconds = time.monotonic() - self.started
        return self.state

    def in_order(self) -> Iterator[tuple[Batch, Any]]:
        """Yield the batches of the training split in row order."""
        return self.train.batches(torch.arange(len(self.train)).split(self.recipe.batch_size), self.dtype)

    def steps(self) -> Iterator[int]:
        """Run the remaining steps of the epoch. In means, the smaller last batch is weighted by its number of clips."""
        state = self.state
        if state.order is None:
            state.order, state.position, state.sums = torch.randperm(len(self.train)), 0, {}
            state.taken = 0
        assert state.sums is not None
        self.model.train()
        self.stepper.begin(state.sums)
        size = self.recipe.batch_size
        chunks = [state.order[start : start + size] for start in range(state.position, len(self.train), size)]
        for rows, (batch, targets) in zip(chunks, self.train.batches(chunks, self.dtype), strict=True):
            self._step(rows, batch, targets, Progress(state.epoch, self.epochs, state.position // size))
            yield len(rows)

    def _step(self, rows: Tensor, batch: Batch, targets: Any, progress: Progress) -> None:
        """Take all steps of the method on one batch.

        A batch that is known to be skipped does not count in the schedule by iteration.
        """
        if self.stepper.take(rows, batch, targets, progress):
            self.by_iteration.step()
        if self.stepper.must_be_read:
            self._catch_up()

    def _catch_up(self) -> None:
        """Take over what the steps have come to: the sums of the loss terms, and the batches that were skipped."""
        outcomes, self.state.sums = self.stepper.read()
        for rows, fault in outcomes:
            if fault is None:
                self.state.taken += len(rows)
            else:
                self._skip(rows, fault)

    def _skip(self, rows: Tensor, fault: Fault) -> None:
        self.state.skipped += 1
        what = fault.what
        clips = [self.train.clips[int(row)] for row in rows]
        self.state.faults += count_lines(f"epoch {self.state.epoch}: skipped a step because its {what} was not finite; its clips", clips)
        if self.state.skipped > self.settings.nonfinite_patience:
            values = ", ".join(f"{key} {value:g}" for key, value in fault.terms.items()) or "not known, as later steps failed too"
            save_not_finite(self.live, {"what": what, "epoch": self.state.epoch, "clips": clips})
            raise PipelineError(
                f"{self.name}: the {what} was not finite in {self.state.skipped} steps, more than train.nonfinite_patience allows; epoch"
                f" {self.state.epoch}, terms: {values}; clips of the last such batch, kept in {self.live / NOT_FINITE}:"
                f" {', '.join(clips)}"
            )

    def close_epoch(self) -> None:
        """Validate, keep the best weights, step the schedule, record the epoch; with a moving average of the weights, its weights."""
        self._catch_up()
        with nullcontext() if self.average is None else self.average.in_place():
            record = self._judged()
        self.by_epoch.step()
        state = self.state
        state.history.append({"epoch": state.epoch, **record})
        state.epoch, state.order, state.sums = state.epoch + 1, None, None

    def _judged(self) -> dict[str, float]:
        """Validate the weights, keep them if they are the best, and return what is recorded of the epoch."""
        state = self.state
        assert state.sums is not None
        record: dict[str, float] = {f"train/{key}": value / state.taken for key, value in state.sums.items() if state.taken}
        record["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        score = float(state.epoch)  # later is better: without validation clips, or if the recipe selects the last epoch
        fault = "" if state.taken else "every step of it was skipped"
        if len(self.validation):
            metrics, clips = self._metrics(self.validation)
            fault = fault or "".join(count_lines("scores that are not finite, of the validation clips", clips))
            record[f"val/{self.task.HEADLINE}"] = metrics[self.task.HEADLINE]
            if self.recipe.selection != "last":
                score = metrics[self.task.HEADLINE] if self.recipe.selection is None else self._selected(metrics)
        if self.watched is not None and len(self.watched):
            metrics, clips = self._metrics(self.watched)
            if not clips:
                record[f"test/{self.task.HEADLINE}"] = metrics[self.task.HEADLINE]
        if math.isnan(score):
            fault = fault or "its score on validation is not a number"
        weights = self.method.kept_weights() if not fault and score > state.best_score else {}
        fault = fault or "".join(count_lines("weights that are not finite", self.method.not_finite(weights)))
        if fault:
            state.faults.append(f"epoch {state.epoch} is not kept: {fault}")
        elif weights:
            state.best_score, state.best_epoch = score, state.epoch
            state.best_weights = {key: value.detach().cpu().clone() for key, value in weights.items()}
        if state.epoch + 1 == self.method.config.calibrated_after:
            state.calibrated = self._calibrated()
        return record

    def _metrics(self, data: SplitData) -> tuple[dict[str, Any], list[str]]:
        """The task's metrics on a split, and the clips whose scores are not finite."""
        scores, decided = predictions(self.model, self.task, data, self.dtype, self.recipe.batch_size)
        return score_split(self.task, data, decided), not_finite_clips(scores, data)

    def _calibrated(self) -> dict[str, Tensor]:
        scores, _ = predictions(self.model, self.task, self.validation, self.dtype, self.recipe.batch_size)
        if clips := not_finite_clips(scores, self.validation):
            (line,) = count_lines("thresholds cannot be selected, scores are not finite, of the validation clips", clips)
            raise PipelineError(f"{self.name}: {line}")
        return self.method.calibrated(scores, self.validation.targets.to("cpu"), self.validation.mask)

    def _selected(self, metrics: dict[str, Any]) -> float:
        """The metric that the recipe selects by; higher is better.

        Raises:
            PipelineError: no such metric, or higher is not better.
        """
        name = str(self.recipe.selection)
        if name.startswith("baseline_") or "error" in name:
            raise PipelineError(f"{self.name}: recipe.selection: {name} cannot be used: higher is not a better method")
        score = metrics.get(name)
        if not isinstance(score, int | float):
            known = ", ".join(key for key, value in metrics.items() if isinstance(value, int | float))
            raise PipelineError(f"{self.name}: recipe.selection: no metric {name!r} on validation; there are: {known}")
        return float(score)

    def tensors(self) -> dict[str, Any]:
        return {name: stateful.state_dict() for name, stateful in self._stateful().items()}

    def _restore(self) -> None:
        content = self.resume(self.train.device)
        if content is not None:
            for before, now in zip(content["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
                before |= {name: now[name] for name in ("fused", "capturable") if name in now}  # it may come from another device
            for name, stateful in self._stateful().items():
                stateful.load_state_dict(content[name])

    def _stateful(self) -> dict[str, Any]:
        parts = {"model": self.method, "optimizer": self.optimizer, "by_epoch": self.by_epoch, "by_iteration": self.by_iteration}
        return parts if self.average is None else {**parts, "average": self.average}

    def _content(self) -> dict[str, Any]:
        if self.state.sums is not None:
            self._catch_up()
        self.state.seconds = time.monotonic() - self.started
        return super()._content()
