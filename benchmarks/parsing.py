"""Time audio-visual video parsing at LLP's shapes: scoring 1,200 clips, a training step, a prediction.

python -m benchmarks.parsing [--batch 128] [--rounds 5] [--threads 1] [--methods han valor]

Scoring: 1,200 clips x 25 classes x 10 segments, all eighteen scores, with many events in one line and few in the other. Goal: under 1 s.
Training: losses, backward pass and Adam on random features (8 x 2048, 128, 512) for every method, beside the same step with the linear
layer applied to all eighty frames before their mean, as released. CMPAE applies a nonlinearity to every frame before the mean, so it has
only that step. Goal: HAN at least 1.5 times faster. The fastest of the rounds counts, in CPU seconds; wall time on a busy machine is noise.
Prediction: a trained CoLeaF as stored and the plain backbone, alternating, medians of three times the rounds. Goal: within 3 %.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.hybrid_attention import ParsingFrontEnd
from pipeline.methods import METHODS, Method, Progress, create
from pipeline.methods.shared.inputs import method_inputs
from pipeline.methods.shared.parsing import ParsingInputs, ParsingMethod
from pipeline.metrics.parsing import parsing_scores
from pipeline.tasks.labels import VideoTargets

CLIPS, CLASSES, SEGMENTS = 1200, 25, 10
SHAPES = {"visual": (8, 2048), "audio": (128,), "motion": (512,)}
LABELS = {"audio_labels": (CLASSES,), "visual_labels": (CLASSES,)}  # of segments, for the methods that learn from them
REASONS = {"coleaf": "around CMPAE", "uwav": "its visual layer takes frames and motion together"}  # for no step on unpooled frames
LATE = Progress(9, 10, 1)  # all passes are active: label denoising starts in the second epoch, CoLeaF's Anchor in the fourth


class AveragedBehind(nn.Module):
    """Apply a linear layer to every frame, then average the frames."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, S, D_v) -> (B, T, D)."""
        return self.layer(frames).mean(dim=2)


def unpool(method: ParsingMethod) -> None:
    """Make the method process every frame, as released."""

    def inputs(batch: Batch) -> ParsingInputs:
        found = method_inputs(method, batch)
        return ParsingInputs(found.visual, found.audio, batch.others["motion"], found.mask)

    method.inputs = inputs  # type: ignore[method-assign]
    for front_end in [part for part in method.modules() if isinstance(part, ParsingFrontEnd)]:
        front_end.visual = AveragedBehind(front_end.visual)  # type: ignore[assignment]


def cpu_seconds(action: Callable[[], object], rounds: int) -> float:
    """CPU seconds of the fastest round, after a warm-up round."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times[1:])


def scoring(density: float, rounds: int) -> float:
    generator = np.random.default_rng(0)
    tables = [generator.random((CLIPS, CLASSES, SEGMENTS)) < density for _ in range(4)]
    return cpu_seconds(lambda: parsing_scores(*tables), rounds)


def training(name: str, pooled: bool, clips: int, rounds: int) -> float:
    torch.manual_seed(0)
    streams = {stream: torch.randn(clips, SEGMENTS, *shape) for stream, shape in SHAPES.items()}
    others = {"motion": streams["motion"], **{name: torch.rand(clips, SEGMENTS, *shape).round() for name, shape in LABELS.items()}}
    batch = Batch(streams["visual"], streams["audio"], torch.ones(clips, SEGMENTS, dtype=torch.bool), others)
    targets = VideoTargets((torch.rand(clips, CLASSES + 1) < 0.1).float())
    method = create(
        name, visual_shape=SHAPES["visual"], audio_shape=SHAPES["audio"], num_classes=CLASSES, other_shapes={"motion": SHAPES["motion"]}
    ).train()
    assert isinstance(method, ParsingMethod)
    if not pooled:
        unpool(method)
    optimizer = torch.optim.Adam(method.parameters(), 1e-4)

    def step() -> None:
        for terms in method.steps(batch, targets, LATE):
            optimizer.zero_grad(set_to_none=True)
            terms["total"].backward()
            optimizer.step()

    return cpu_seconds(step, rounds)


def predicting(anchor: str, clips: int, rounds: int) -> tuple[float, float]:
    """Median seconds to predict a batch with the method ``anchor`` alone, and with CoLeaF around it as loaded."""
    torch.manual_seed(0)
    shapes = {"visual_shape": SHAPES["visual"], "audio_shape": SHAPES["audio"], "other_shapes": {"motion": SHAPES["motion"]}}
    plain = create(anchor, num_classes=CLASSES, **shapes).eval()  # type: ignore[arg-type]
    coleaf = create("coleaf", num_classes=CLASSES, **shapes, anchor=anchor).eval()  # type: ignore[arg-type]
    coleaf.load_kept(coleaf.kept_weights())
    streams = {stream: torch.randn(clips, SEGMENTS, *shape) for stream, shape in SHAPES.items()}
    batch = Batch(streams["visual"], streams["audio"], torch.ones(clips, SEGMENTS, dtype=torch.bool), {"motion": streams["motion"]})
    times: dict[Method, list[float]] = {plain: [], coleaf: []}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for method, measured in times.items():
                start = time.process_time()
                method.predict(batch)
                measured.append(time.process_time() - start)
    first, second = (float(np.median(measured[1:])) for measured in times.values())
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="*", help="time the steps of these alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"load {os.getloadavg()[0]:.1f}, {options.threads} thread(s), CPU seconds, fastest of {options.rounds}")
    for density in (0.4, 0.05) if options.methods is None else ():
        print(f"score {CLIPS} x {CLASSES} x {SEGMENTS}, {density:.0%} on: {scoring(density, options.rounds):.3f}")
    for name in options.methods or (name for name in METHODS.names() if "avvp" in METHODS.get(name).tasks):
        method_class = METHODS.get(name)
        assert issubclass(method_class, ParsingMethod)
        if method_class.every_frame or name in REASONS:
            seconds = training(name, True, options.batch, options.rounds)
            print(f"{name}, step of {options.batch}: {seconds:.3f}, {REASONS.get(name, 'always on every frame')}")
            continue
        pooled, unpooled = (training(name, frames, options.batch, options.rounds) for frames in (True, False))
        print(f"{name}, step of {options.batch}: pooled {pooled:.3f}, unpooled {unpooled:.3f}, ratio {unpooled / pooled:.2f}")
    for anchor in ("han", "cmpae") if options.methods is None else ():
        plain, kept = predicting(anchor, options.batch, 3 * options.rounds)
        print(f"coleaf around {anchor}, prediction of {options.batch}: {kept:.3f}, {anchor} alone {plain:.3f}, ratio {kept / plain:.3f}")


if __name__ == "__main__":
    main()
