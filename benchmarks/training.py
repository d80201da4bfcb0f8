"""Measure time and memory of a training step: every method in float32, beside CACE-Net in float64 as released.

python -m benchmarks.training [--method NAME ...] [--supervision weak] [--batch 64] [--steps 3] [--rounds 3] [--threads 2] [--bfloat16]
For the methods of audio-visual video parsing, at LLP's shapes, use python -m benchmarks.parsing.

A step is that of the training loop: losses (with CACE-Net's contrast switched on), backward pass, clipping, optimizer, on a batch of random
features that is already on the device. The reference, ``as_released``, is tests/methods/cace_net_as_released.py in float64. Beside it are
the same with the memory setting of our training stage (``float64 kept``; pipeline/training/memory.py), and our own code in float64, which
has that setting like every method. The lines run one after another, each in a fresh process, in ``--rounds`` rounds; each process takes one
uncounted step first. Seconds are medians over all steps. ``faster`` is the reference's fastest step divided by the line's, the median over
the rounds, in wall time and in CPU seconds: on a shared machine wall time is noise and CPU seconds are steadier. ``--bfloat16`` also
measures each method under bfloat16 autocast (``train.precision: bf16-mixed``). Memory is the process's peak on a CPU, and torch's peak
allocation on a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.methods import METHODS, Progress, create
from pipeline.methods.base import Recipe
from pipeline.methods.shared.localization import LocalizationMethod
from pipeline.methods.shared.suppression import SuppressionRecipe
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.labels import VideoTargets
from pipeline.training.memory import keep_freed_memory
from pipeline.training.optimizer import OPTIMIZERS
from tests.methods.cace_net_as_released import CaceNetAsReleased

REFERENCE = ("as_released", "float64")
BESIDE = (("as_released", "float64 kept"), ("cace_net", "float64"))
AVE_CLIPS, AVE_EPOCHS = 3339, 200


@dataclass(frozen=True)
class Shapes:
    """The shapes of a batch; the defaults are AVE's."""

    batch: int = 64
    segments: int = 10
    map_size: int = 7
    visual_width: int = 512
    audio_width: int = 128
    classes: int = 28


@dataclass
class Measured:
    """Steps of one method: wall and CPU seconds of each, peak GiB, parameters."""

    parameters: int
    peak: float = 0.0
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def random_batch(shapes: Shapes, weak: bool) -> tuple[Batch, Tensors]:
    """Random features; about half of the segments are events."""
    torch.manual_seed(0)
    size = (shapes.batch, shapes.segments)
    visual = torch.randn(*size, shapes.map_size, shapes.map_size, shapes.visual_width)
    batch = Batch(visual, torch.randn(*size, shapes.audio_width), torch.ones(size, dtype=torch.bool))
    video = torch.randint(shapes.classes, (shapes.batch,))
    if weak:
        return batch, VideoTargets(torch.nn.functional.one_hot(video, shapes.classes + 1).float())
    segments = torch.where(torch.rand(size) < 0.5, video[:, None], shapes.classes)
    return batch, AvelTargets(segments, video)


def one_step(
    network: torch.nn.Module, recipe: Recipe, optimizer: torch.optim.Optimizer, batch: Batch, targets: Tensors, bfloat16: bool
) -> Tensor:  # fmt: skip
    """Take one step of the training loop; returns the loss."""
    with torch.autocast(batch.visual.device.type, torch.bfloat16, enabled=bfloat16):
        loss = network.losses(batch, targets, Progress(AVE_EPOCHS - 1, AVE_EPOCHS))["total"]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
    optimizer.step()
    return loss


def build(name: str, supervision: str, shapes: Shapes) -> tuple[torch.nn.Module, Recipe]:
    """Build the network and its training recipe."""
    if name == REFERENCE[0]:
        return CaceNetAsReleased(shapes.visual_width, shapes.audio_width, shapes.classes), SuppressionRecipe()
    settings = {"supervision": supervision} if issubclass(METHODS.get(name), LocalizationMethod) else {}
    method = create(
        name, visual_shape=(shapes.map_size, shapes.map_size, shapes.visual_width), audio_shape=(shapes.audio_width,),
        num_classes=shapes.classes, **settings,
    )  # fmt: skip
    return method, method.config.recipe


def measure(name: str, precision: str, supervision: str, shapes: Shapes, steps: int, threads: int, device: str) -> Measured:
    """Time one line; runs in its own process, so that the peak memory is the line's."""
    torch.set_num_threads(threads)
    if (name, precision) != REFERENCE:
        keep_freed_memory()
    dtype = torch.float64 if precision.startswith("float64") else torch.float32
    network, recipe = build(name, supervision, shapes)
    network = network.to(device=device, dtype=dtype).train()
    optimizer = OPTIMIZERS[recipe.optimizer](network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batch, targets = random_batch(shapes, supervision == "weak" and name != REFERENCE[0])
    batch = Batch(batch.visual.to(device, dtype), batch.audio.to(device, dtype), batch.mask.to(device))
    targets = targets.to(device)
    result = Measured(sum(parameter.numel() for parameter in network.parameters()))
    for step in range(steps + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        loss = one_step(network, recipe, optimizer, batch, targets, precision == "bfloat16").item()  # waits for the device
        if step:
            result.wall.append(time.perf_counter() - wall)
            result.cpu.append(time.process_time() - cpu)
        assert loss == loss, f"{name}: the loss is not a number"
    on_gpu = torch.device(device).type == "cuda"
    result.peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result


def apart(*arguments) -> Measured:
    """Run :func:`measure` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def faster(reference: list[Measured], rounds: list[Measured], clock: str) -> float:
    """The reference's fastest step divided by this line's, median over the rounds."""
    pairs = zip(reference, rounds, strict=True)
    return statistics.median(min(getattr(ours, clock)) / min(getattr(this, clock)) for ours, this in pairs)


def report(results: dict[tuple[str, str], list[Measured]], shapes: Shapes) -> None:
    """Print one line per method, then the reference and its variants."""
    print(f"\n{'method':14} {'precision':12} {'parameters':>10} {'wall s':>7} {'CPU s':>7} {'peak GiB':>8} {'faster: wall':>12} {'CPU':>6}")
    for (name, precision), rounds in results.items():
        wall, cpu = (statistics.median(second for each in rounds for second in getattr(each, clock)) for clock in ("wall", "cpu"))
        ratios = [faster(results[REFERENCE], rounds, clock) for clock in ("wall", "cpu")]
        print(
            f"{name:14} {precision:12} {rounds[0].parameters:10,} {wall:7.3f} {cpu:7.2f} {max(each.peak for each in rounds):8.2f}"
            f" {ratios[0]:11.2f}x {ratios[1]:5.2f}x"
        )
    if ("cace_net", "float32") in results:
        steps = -(-AVE_CLIPS // shapes.batch) * AVE_EPOCHS
        minutes = statistics.median(second for each in results["cace_net", "float32"] for second in each.wall) * steps / 60
        print(
            f"CACE-Net, {AVE_EPOCHS} epochs of {AVE_CLIPS:,} clips, steps alone, from the median: {minutes:,.1f} minutes ({steps:,} steps)"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in METHODS.names() if "avel" in METHODS.get(name).tasks]
    parser.add_argument("--method", action="append", choices=known, help="may be repeated (default: all)")
    parser.add_argument("--supervision", choices=["full", "weak"], default="full")
    for name, value in vars(Shapes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    arguments.method = arguments.method or known
    return arguments


def main() -> None:
    arguments = parse()
    device = "cuda" if arguments.device != "cpu" and torch.cuda.is_available() else "cpu"
    shapes = Shapes(**{name: getattr(arguments, name) for name in vars(Shapes())})
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {arguments.threads} threads"
    print(f"{machine}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}, supervision {arguments.supervision}, {shapes}")
    precisions = ("float32", "bfloat16") if arguments.bfloat16 else ("float32",)
    lines = [(name, precision) for name in arguments.method for precision in precisions]
    results: dict[tuple[str, str], list[Measured]] = {}
    for number in range(arguments.rounds):
        print(f"round {number}, load {os.getloadavg()[0]:.1f}", flush=True)
        for name, precision in dict.fromkeys([*lines, REFERENCE, *BESIDE]):
            measured = apart(name, precision, arguments.supervision, shapes, arguments.steps, arguments.threads, device)
            results.setdefault((name, precision), []).append(measured)
            print(f"  {name} {precision}: {min(measured.wall):.3f} s, CPU {min(measured.cpu):.2f} s", flush=True)
    report(results, shapes)


if __name__ == "__main__":
    main()
