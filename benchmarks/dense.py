"""Train a small detector on made features of untrimmed videos, and score it: ``python -m benchmarks.dense``.

160 videos of 10 to 60 s to learn from and 100 to score, 8 classes, segments of one second, in a world whose truth is known: an event
shows in both streams, distractors in one of them alone, and noise covers both. 300 steps of batches of 16 take a minute of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.batch import Batch
from pipeline.methods import Method, Progress, create
from pipeline.tasks import dave
from pipeline.tasks.dave import DetectionScores, EventTargets
from pipeline.training.average import WeightAverage
from pipeline.training.optimizer import optimizer_of, schedules_of

CLASSES, STEPS, WIDTHS, NOISE = 8, 64, (128, 64), 1.5
SMALL = {"width": 48, "heads": 4, "levels": 5, "dependency_width": 0}
RECIPE = {"epochs": 30, "warmup_epochs": 3, "learning_rate": 1e-3}
MOST = 9  # events of a video

Videos = tuple[Batch, EventTargets]


def made_videos(count: int, seed: int) -> Videos:
    """Make ``count`` videos; those of different seeds share the look and the sound of the classes."""
    looks = [np.random.default_rng(0).standard_normal((CLASSES, width)).astype(np.float32) for width in WIDTHS]
    rng = np.random.default_rng(seed + 1)
    streams = [NOISE * rng.standard_normal((count, STEPS, width)).astype(np.float32) for width in WIDTHS]
    seconds = rng.uniform(10, 60, count)
    spans, labels = np.zeros((count, MOST, 2), np.float32), np.full((count, MOST), -1)
    for video in range(count):
        number = 0
        classes = rng.permutation(CLASSES)
        chosen = 1 + rng.choice(3, p=(0.6, 0.27, 0.13))
        for order, label in enumerate(classes[: chosen + 2]):
            shown = (True, True) if order < chosen else ((True, False) if order == chosen else (False, True))
            for start, end in spans_of_class(rng, seconds[video]):
                for stream, look, on in zip(streams, looks, shown, strict=True):
                    if on:
                        stream[video] += covered(start, end)[:, None] * look[label]
                if order < chosen:
                    spans[video, number], labels[video, number] = (start, end), label
                    number += 1
    lengths = torch.from_numpy(seconds).float()
    mask = torch.arange(STEPS) < lengths.ceil()[:, None]
    visual, audio = (torch.from_numpy(stream).masked_fill(~mask[..., None], 0.0) for stream in streams)
    truth = EventTargets(torch.from_numpy(spans), torch.from_numpy(labels), lengths)
    return Batch(visual, audio, mask, seconds=lengths), truth


def spans_of_class(rng: np.random.Generator, seconds: float) -> list[tuple[float, float]]:
    """Up to three events of a class, at least two seconds apart; one in eight videos' is as long as the video."""
    if rng.random() < 0.13:
        return [(0.0, float(seconds))]
    found: list[tuple[float, float]] = []
    for _ in range(rng.integers(1, 4)):
        length = float(np.clip(6.4 * np.exp(1.2 * rng.standard_normal()), 1.0, 0.8 * seconds))
        start = float(rng.uniform(0, seconds - length))
        if all(start > end + 2 or start + length < before - 2 for before, end in found):
            found.append((round(start, 1), round(start + length, 1)))
    return found


def covered(start: float, end: float) -> np.ndarray:
    """Share of each second that a span covers, (T,)."""
    second = np.arange(STEPS)
    return (np.minimum(second + 1, end) - np.maximum(second, start)).clip(0, 1).astype(np.float32)


def train(method: Method, videos: Videos, steps: int) -> WeightAverage:
    """Take ``steps`` steps in random order."""
    batch, truth = videos
    recipe = method.config.recipe
    optimizer = optimizer_of(recipe, method)
    _, schedule = schedules_of(recipe, optimizer, len(batch.mask) // recipe.batch_size)
    average = WeightAverage(method, recipe.ema or 0.999, recipe.ema_warmup)
    order = torch.cat([torch.randperm(len(batch.mask)) for _ in range(recipe.epochs)]).split(recipe.batch_size)
    method.train()
    for number, rows in enumerate(order[:steps]):
        optimizer.zero_grad()
        method.losses(batch[rows], truth[rows], Progress(number * recipe.batch_size // len(batch.mask), recipe.epochs))["total"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), recipe.clip_norm or 1.0)
        optimizer.step()
        schedule.step()
        average.update()
    return average


@torch.no_grad()
def scored(method: Method, videos: Videos) -> dict[str, float]:
    """The task's metrics, answered in batches of 16."""
    batch, truth = videos
    method.eval()
    chunks = torch.arange(len(batch.mask)).split(16)
    scores = DetectionScores.concatenate([method.predict(batch[rows]) for rows in chunks])  # type: ignore[arg-type]
    found = dave.score(dave.decide(scores, batch.mask), truth, batch.mask, CLASSES, 1.0)
    return {name: round(value, 1) for name, value in found.items() if isinstance(value, float) and name.startswith(("mAP", "baseline"))}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="unav")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the method, as JSON")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    settings = {**SMALL, "recipe": RECIPE, **options.settings}
    method = create(options.method, visual_shape=WIDTHS[:1], audio_shape=WIDTHS[1:], num_classes=CLASSES, **settings)
    learned, tested = made_videos(160, 0), made_videos(100, 1)
    before = time.process_time()
    average = train(method, learned, options.steps)
    seconds = time.process_time() - before
    of_step = scored(method, tested)
    with average.in_place():
        averaged = scored(method, tested)
    parameters = sum(weight.numel() for weight in method.parameters())
    print(f"{options.method}: {parameters} parameters, {seconds:.0f} s of one core for {options.steps} steps")
    print(f"test, average of the weights: {averaged}")
    print(f"test, weights of the last step: {of_step}")


if __name__ == "__main__":
    main()
