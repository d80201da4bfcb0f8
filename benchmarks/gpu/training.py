"""Training on a card: one step of every method, CACE-Net's epochs, several seeds at once, fine-tuning.

All of it goes through the code of the stage ``train``, on made features of the published shapes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType

from benchmarks import finetuning
from benchmarks import training as formulas
from benchmarks.gpu.made import SETS, SMALL_SETS, MadeSet, made, run_inputs
from benchmarks.gpu.parts import Results
from pipeline.training.ahead import StepsAhead
from pipeline.training.capture import own_stream
from pipeline.training.loop import Trainer
from pipeline.training.members import Member
from pipeline.training.memory import keep_freed_memory
from pipeline.training.progress import Bar
from pipeline.training.run import RunInputs
from pipeline.training.settings import TrainSettings
from pipeline.training.train import RunTraining, train_run, train_seed

AVE_EPOCHS = 200
TOP = 14  # kernels listed by name
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch")


def sets(small: bool) -> dict[str, MadeSet]:
    return SMALL_SETS if small else SETS


def wait(device: str) -> None:
    """Wait until the device has done everything."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_gib(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0


def train_settings(device: str, train: dict[str, Any]) -> TrainSettings:
    return TrainSettings.model_validate({"device": device, **train})


def kernels(device: str, work: Callable[[], object], steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Profile ``steps`` steps.

    Returns:
        (milliseconds and number of kernels a step, and the launches that the host made for them; the kernels that took longest).
    """
    if device != "cuda":
        work()
        return {}, {}
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.profiler.profile(activities=activities) as profile:
            work()
            torch.cuda.synchronize()
        events = profile.events()
    on_card = [event for event in events if event.device_type == DeviceType.CUDA and not event.is_user_annotation]
    launched = sum(event.device_type == DeviceType.CPU and event.name.startswith(LAUNCHES) for event in events)
    times: dict[str, list[float]] = {}
    for event in on_card:
        times.setdefault(event.name, []).append(event.time_range.elapsed_us() / 1000)
    longest = sorted(times.items(), key=lambda item: -sum(item[1]))[:TOP]
    top = {f"{sum(each) / steps:.3f} ms in {len(each) / steps:.0f}: {name[:90]}": sum(each) / steps for name, each in longest}
    return {"kernel_ms": sum(map(sum, times.values())) / steps, "kernels": len(on_card) / steps, "launches": launched / steps}, top


class StepClock:
    """Times the steps of one method under several settings, on one small data set that stays open."""

    def __init__(self, root: Path, task: str, method: str, settings: dict[str, Any], device: str, small: bool) -> None:
        self.data = sets(small)[task]
        settings = {**settings, "recipe": {"batch_size": self.data.batch}}
        self.inputs = run_inputs(made(root, self.data), task, method, settings, [0])
        self.device, self.small = device, small
        self.captured = False  # all steps of the last training

    @property
    def steps_of_epoch(self) -> int:
        return self.data.clips["train"] // self.data.batch

    def trainer(self, train: dict[str, Any], scratch: Path) -> Trainer:
        """A trainer as the stage makes it, in its last epoch: all terms of the method are active."""
        settings = train_settings(self.device, train)
        run = RunTraining.load(self.inputs, settings, scratch, scratch / "live")
        torch.manual_seed(0)
        first = self.inputs.build_first()
        method = self.inputs.build()
        trainer = run.trainer(method, self.inputs.name, "checkpoint", "live")
        with torch.no_grad():
            method.prepare(None if first is None else first.to(self.device).eval(), trainer.in_order)
        trainer.state.epoch = trainer.epochs - 1
        return trainer

    @contextlib.contextmanager
    def epochs(self, train: dict[str, Any]) -> Iterator[Callable[[], float]]:
        """A function that takes an epoch's steps and returns the milliseconds of one; algorithms are chosen and graphs captured already.

        What a training does at an epoch's end (validation, reading back) is not in these milliseconds.
        """
        with tempfile.TemporaryDirectory() as scratch:
            trainer = self.trainer(train, Path(scratch))

            def epoch() -> float:
                start = time.perf_counter()
                for _ in trainer.steps():
                    pass
                wait(self.device)
                seconds = time.perf_counter() - start
                trainer.close_epoch()
                trainer.state.epoch = trainer.epochs - 1
                return seconds * 1000 / self.steps_of_epoch

            with own_stream(trainer.fabric.device):
                for _ in range(1 if self.small else 3):
                    epoch()
                yield epoch
            stepper = trainer.stepper
            self.captured = isinstance(stepper, StepsAhead) and all(work.replay is not None for work in stepper.works.values())
            trainer.stepper.release()

    def wall(self, train: dict[str, Any]) -> dict[str, float]:
        """The median step."""
        with self.epochs(train) as epoch:
            times, end = list[float](), time.perf_counter() + (0 if self.small else 1.5)
            while not times or (time.perf_counter() < end and len(times) < 12):
                times.append(epoch())
            result = {"wall_ms": statistics.median(times), "gib": peak_gib(self.device)}
        return {**result, "captured": float(self.captured)}

    def kernels(self, train: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
        """What the card does in a step, and the launches of the host; see :func:`kernels`."""
        with self.epochs(train) as epoch:
            return kernels(self.device, epoch, self.steps_of_epoch)


def steps(
    results: Results, root: str, task: str, method: str, settings: dict[str, Any], variants: list[dict[str, Any]], device: str, small: bool
) -> None:
    """Time a method's step under each of ``variants`` (settings of the block ``train``), and profile the first three."""
    keep_freed_memory()
    clock = StepClock(Path(root), task, method, settings, device, small)
    for train in variants:
        line = " ".join(map(str, train.values()))
        with results.job(line):
            results.emit(line, **clock.wall(train))
    top: dict[str, float] = {}
    for train in variants[:3]:
        line = " ".join(map(str, train.values()))
        with results.job(f"{line} kernels"):
            numbers, top = clock.kernels(train)
            results.emit(f"{line} kernels", **numbers)
    for name, milliseconds in top.items():
        results.emit(f"{line} {name}", ms=milliseconds)


def released(results: Results, device: str, small: bool) -> None:
    """Time CACE-Net's step as its authors released it, in float64."""
    data = sets(small)["avel"]
    height, _, width = data.streams["visual"]
    shapes = formulas.Shapes(data.batch, data.segments, height, width, data.streams["audio"][0], data.classes)
    name, _ = formulas.REFERENCE
    network, recipe = formulas.build(name, "full", shapes)
    network = network.to(device=device, dtype=torch.float64).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    batch, targets = formulas.random_batch(shapes, weak=False)
    batch, targets = batch.to(device), targets.to(device)
    batch.visual, batch.audio = batch.visual.double(), batch.audio.double()

    def some(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            formulas.one_step(network, recipe, optimizer, batch, targets, bfloat16=False)
        wait(device)
        return (time.perf_counter() - start) * 1000 / count

    some(2)
    times = [some(1 if small else 4) for _ in range(1 if small else 8)]
    results.emit("float64", wall_ms=statistics.median(times), gib=peak_gib(device))
    results.emit("float64 kernels", **kernels(device, lambda: some(4), 4)[0])


class Clock(Bar):
    """A progress bar that shows nothing and notes the time of every epoch's end."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.ends: list[float] = []

    def epoch(self, shown: str, line: str) -> None:
        self.ends.append(time.perf_counter())

    def say(self, line: str) -> None:
        print(line, flush=True)


def cace_net(root: str, epochs: int, seeds: list[int], small: bool) -> RunInputs:
    """CACE-Net as the supervised suite trains it, for ``epochs`` epochs."""
    settings: dict[str, Any] = {"gate_loss": "faithful", "recipe": {"epochs": epochs, "batch_size": sets(small)["ave"].batch}}
    return run_inputs(made(Path(root), sets(small)["ave"]), "avel", "cace_net", settings, seeds)


def epochs(results: Results, root: str, count: int, train: dict[str, Any], name: str, device: str, small: bool) -> None:
    """Train CACE-Net on AVE's shapes for ``count`` epochs, validation after each: the fixed cost, the first epoch, one of the others."""
    keep_freed_memory()
    inputs = cace_net(root, count, [0], small)
    settings = train_settings(device, train)
    clocks: list[Clock] = []

    def bar(**named: Any) -> Clock:
        clocks.append(Clock(**named))
        return clocks[-1]

    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        run = RunTraining.load(inputs, settings, Path(scratch), Path(scratch) / "live", bar)
        loaded = time.perf_counter()
        train_seed(run, Member(0))
        end = time.perf_counter()
    ends = clocks[-1].ends
    each = statistics.median(later - earlier for earlier, later in itertools.pairwise(ends))
    first = ends[0] - loaded
    fixed = end - start - (ends[-1] - loaded)
    whole = fixed + first + each * (AVE_EPOCHS - 1)
    results.emit(
        name, epochs=count, fixed_s=fixed, first_s=first, epoch_s=each, measured_s=end - start, whole_s=whole, gib=peak_gib(device)
    )


def seeds(results: Results, root: str, count: int, train: dict[str, Any], number: int, device: str, small: bool) -> None:
    """Train ``number`` seeds side by side for few and for ``count`` epochs: the difference is the epochs, the rest the fixed cost."""
    settings = train_settings(device, train)
    few = max(1, count // 5) if count < AVE_EPOCHS else 0
    walls = {}
    for length in filter(None, (few, count)):
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            train_run(cace_net(root, length, list(range(number)), small), settings, Path(scratch), Path(scratch) / "live", number)
            walls[length] = time.perf_counter() - start
    each = (walls[count] - walls[few]) / (count - few) if few else walls[count] / count
    whole = walls[count] + each * (AVE_EPOCHS - count)
    results.emit(
        f"{number} seeds at once", epochs=count, epoch_s=each, measured_s=walls[count], fixed_s=walls[count] - each * count, whole_s=whole
    )


def finetune(results: Results, precision: str, parts: int | None, device: str, small: bool) -> None:
    """Time a step of contrastive fine-tuning: ResNet-50 at 224 px, 64 clips x 10 frames."""
    size, clips, frames, steps = (64, 4, 2, 1) if small else (224, 64, 10, 4)
    encoder = "efficientnet_lite0" if small else "resnet50"
    options = argparse.Namespace(
        encoder=encoder, size=size, clips=clips, frames=frames, steps=steps, precision=precision, device=device
    )  # fmt: skip
    measured = finetuning.measure(options, parts)
    results.emit(
        f"{precision} {'plain' if parts is None else f'{parts} clips at a time'}",
        images=clips * frames / measured.seconds, gib=measured.gib,
    )  # fmt: skip
