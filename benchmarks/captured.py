"""Train every method with and without CUDA graphs on a card, and compare the weights and the time of a step.

python -m benchmarks.captured [--method NAME ...] [--precision 32-true tf32 bf16-mixed] [--steps 6] [--epochs 7] [--seconds 100]

Random features of AVE's and LLP's shapes, already on the card; batches of the method's recipe and a smaller last one; the training loop as
it is, without validation. For each method and precision, one line: whether its steps were captured, milliseconds of a step in the last
epoch without graphs and with them, the largest difference of a weight between two trainings without graphs (0: the card gives the same
digits every time) and between one without and one with them, the warnings of torch. A method that fails does not end the others: the last
lines of its traceback stand in its place. Where there is no card, the same code runs on the CPU, with each graph replaced by a call.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.nn.functional import one_hot

from pipeline.batch import Tensors
from pipeline.devices import choose_device, use_deterministic_kernels, use_precision
from pipeline.methods import METHODS, Method, create
from pipeline.tasks import TASKS
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.cml import MatchingTargets
from pipeline.tasks.dave import EventTargets
from pipeline.tasks.labels import VideoTargets
from pipeline.training import capture, loop
from pipeline.training.data import SplitData
from pipeline.training.settings import TrainSettings
from pipeline.training.streams import Resident

SEGMENTS, AUDIO, MOTION = 10, (128,), (512,)
VISUAL = {"avel": (7, 7, 512), "cml": (7, 7, 512), "avvp": (8, 2048), "dave": (2048,)}
CLASSES = {"avel": 28, "cml": 28, "avvp": 25, "dave": 100}
FIRST = ("cace_net", "han", "cmpae", "coleaf")  # where time is short
SHORTER = 3  # clips that the last batch of an epoch lacks


@dataclass
class Trained:
    """The weights of a training, milliseconds of a step in its last epoch, what it printed and what torch warned of."""

    weights: dict[str, torch.Tensor]
    milliseconds: float
    lines: list[str]
    warned: list[str]
    graphs: int


@dataclass
class Clock:
    """A progress bar that notes the time of each epoch."""

    times: list[float] = field(default_factory=lambda: [time.perf_counter()])

    def epoch(self, shown: str, line: str) -> None:
        self.times.append(time.perf_counter())

    def say(self, line: str) -> None:
        pass

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def build(name: str, batch_size: int, epochs: int) -> Method:
    """The method at published widths, with the batches of its recipe unless ``batch_size`` is set; CoLeaF trains CMPAE."""
    task = min(METHODS.get(name).tasks)  # the first that it was made for
    config = METHODS.get(name).Config()
    recipe = {"epochs": epochs, "batch_size": batch_size or config.recipe.batch_size, "selection": "last"}
    settings = {"threshold": 0.5} if task == "dave" else {}  # nothing is validated
    shapes = {"visual_shape": VISUAL[task], "audio_shape": AUDIO, "other_shapes": {"motion": MOTION}}
    torch.manual_seed(0)
    method = create(name, num_classes=CLASSES[task], **shapes, recipe=recipe, **settings)  # type: ignore[arg-type]
    for buffer_name, buffer in method.named_buffers():
        if "noise_" in buffer_name:  # ratios of labels to remove
            buffer.fill_(0.3)
    return method


def random_data(method: Method, clips: int, device: torch.device, padded: bool = False) -> SplitData:
    """Features and truth of so many clips; ``padded``: some are shorter."""
    task = min(method.tasks)  # the first that it was made for
    classes, generator = method.num_classes, torch.Generator(device).manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(clips, SEGMENTS, *shape, generator=generator, device=device)

    on, video = noise() < 0, torch.randint(classes, (clips,), generator=generator, device=device)
    several = torch.cat([one_hot(video, classes) | (noise(classes)[:, 0] > 1.5).long(), torch.zeros_like(video)[:, None]], dim=1).float()
    rows = torch.arange(clips, device=device)
    truth: dict[str, Tensors] = {
        "avel": AvelTargets(torch.where(on, video[:, None], classes), video),
        "cml": MatchingTargets(on, several[:, :classes]),
        "avvp": VideoTargets(several, rows),
        "dave": EventTargets(torch.rand(clips, 1, 2, device=device).cumsum(dim=2) * 5, video[:, None], torch.full_like(video, SEGMENTS)),
    }
    streams = {"visual": noise(*method.visual_shape), "audio": noise(*AUDIO)} | ({"motion": noise(*MOTION)} if task == "avvp" else {})
    mask, numbers = torch.ones(clips, SEGMENTS, dtype=torch.bool), list(range(clips))
    if padded:
        mask[::16, -2:] = False
    return SplitData(Resident(streams), mask, truth[task], numbers, [f"clip{n}" for n in numbers], [], classes, 1.0, device)


@contextmanager
def called_again(device: torch.device) -> Iterator[None]:
    """Without a card, let a call stand for a graph during the block."""
    if device.type == "cuda":
        yield
        return
    before = capture.Graphs.capture
    try:
        capture.Graphs.capture = lambda self, work: work  # type: ignore[method-assign]
        yield
    finally:
        capture.Graphs.capture = before  # type: ignore[method-assign]


def train(name: str, precision: Any, graphs: Any, options: argparse.Namespace, device: torch.device, padded: bool = False) -> Trained:
    method = build(name, options.batch, options.epochs)
    size = method.config.recipe.batch_size
    data = random_data(method, size * options.steps - min(SHORTER, size - 1), device, padded)
    none = SplitData(data.features, data.mask[:0], data.targets[:0], [], [], [], data.num_classes, 1.0, device)
    settings = TrainSettings(device=device.type, precision=precision, graphs=graphs, checkpoint_seconds=1e6)
    use_precision(device, precision)
    fabric = Fabric(accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, precision=settings.of_fabric)
    clock, lines, made = Clock(), list[str](), list[Any]()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught, called_again(device):
        warnings.simplefilter("always")
        task = min(method.tasks)  # the first that it was made for
        places = Path(folder) / "checkpoint", Path(folder) / "live"
        trainer = loop.Trainer(fabric, method, TASKS.get(task), data, none, settings, *places, name, bar=lambda **_: clock)
        if hasattr(trainer.stepper, "say"):
            trainer.stepper.say = lines.append
            once = trainer.stepper.graphs.capture if trainer.stepper.graphs is not None else None

            def noted(work: Any) -> Any:
                assert once is not None
                replay = once(work)
                made.append(replay)
                return replay

            if once is not None:
                trainer.stepper.graphs.capture = noted
        torch.manual_seed(5)
        state = trainer.run()
    assert state.best_weights is not None
    assert not state.skipped, state.faults
    warned = sorted({str(each.message).splitlines()[0] for each in caught})
    return Trained(state.best_weights, 1000 * (clock.times[-1] - clock.times[-2]) / options.steps, lines, warned, len(made))


def largest_difference(first: Trained, second: Trained) -> float:
    pairs = [(weight.double(), second.weights[name].double()) for name, weight in first.weights.items()]
    return max(float((one - other).abs().max()) for one, other in pairs if one.numel())


def compare(name: str, precision: str, options: argparse.Namespace, device: torch.device) -> str:
    """The line of one method."""
    plain, again, captured = (train(name, precision, graphs, options, device) for graphs in ("off", "off", "auto"))
    facts = [
        f"{captured.graphs} graphs" if captured.graphs else "NOT CAPTURED",
        f"{plain.milliseconds:.2f} -> {captured.milliseconds:.2f} ms",
        f"same digits twice: {largest_difference(plain, again):.1e}",
        f"captured or not: {largest_difference(plain, captured):.1e}",
        *captured.lines,
        *(f"WARNED: {line[:160]}" for line in dict.fromkeys([*plain.warned, *captured.warned])),
    ]
    return f"{name:14} {precision:10} " + "; ".join(facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", nargs="*", default=None, choices=METHODS.names())
    parser.add_argument("--precision", nargs="*", default=["32-true"], choices=("32-true", "tf32", "bf16-mixed", "64-true"))
    parser.add_argument("--steps", type=int, default=6, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=0, help="clips of a batch; 0: as in the method's recipe")
    parser.add_argument("--seconds", type=float, default=100, help="no further line is begun after so many")
    options = parser.parse_args()
    device = choose_device("auto")
    use_deterministic_kernels(device)
    if device.type == "cpu":
        loop.runs_ahead = lambda device: True
    began, lines = time.perf_counter(), []
    for name in options.method or [*FIRST, *(each for each in METHODS.names() if each not in FIRST)]:
        for precision in options.precision:
            if time.perf_counter() - began > options.seconds:
                lines.append(f"{name:14} {precision:10} no time left")
                continue
            try:
                lines.append(compare(name, precision, options, device))
            except Exception:
                last = traceback.format_exc().strip().splitlines()[-6:]
                lines.append(f"{name:14} {precision:10} FAILED\n" + "\n".join(f"    {line}" for line in last))
            print(lines[-1], flush=True)
    print("\nwhat stands above, together\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
