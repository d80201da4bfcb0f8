"""Measure contrastive fine-tuning, plain and with gradient caching: images and seconds per step, peak memory.

python -m benchmarks.finetuning [--encoder resnet50] [--size 224] [--clips 64] [--frames 10] [--parts 8] [--precision bf16-mixed]

The whole encoder is trained with SGD, random weights, random frames and frozen batch norms; audio features have 128 numbers. Each variant
runs in its own process, so the peak is its own (on a GPU the allocator's, else the process's); the fastest step after the first counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from pipeline.contrastive.batches import ClipBatch
from pipeline.contrastive.model import ContrastiveModel, Heads
from pipeline.contrastive.schedule import make_optimizer
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.contrastive.steps import cached_step, plain_step
from pipeline.devices import choose_device, use_precision
from pipeline.encoders import VisualEncoder, create

AUDIO_WIDTH = 128


class Measured(NamedTuple):
    seconds: float
    gib: float


def measure(options: argparse.Namespace, parts: int | None) -> Measured:
    """Time the fastest step after the first; ``parts``: clips in memory at a time, None: all."""
    torch.manual_seed(0)
    device = choose_device(options.device)
    visual = {"encoder": options.encoder, "weights": "none", "image_size": options.size}
    settings = FinetuneSettings.model_validate(
        {"visual": visual, "audio": {"encoder": "logmel"}, "batch_norm": "frozen", "precision": options.precision}
    )
    encoder = create(options.encoder, weights="none", image_size=options.size)
    assert isinstance(encoder, VisualEncoder)
    heads = Heads(settings, encoder.output_shape[-1], AUDIO_WIDTH, torch.zeros(AUDIO_WIDTH), torch.ones(AUDIO_WIDTH))
    model = ContrastiveModel(encoder, heads, settings)
    model.thaw()
    use_precision(device, settings.precision)
    fabric = Fabric(accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, precision=settings.of_fabric)
    wrapped, optimizer = fabric.setup(model, make_optimizer(settings, model.network.parameters(), heads.parameters()))
    model.train()
    frames = torch.randn(options.clips * options.frames, 3, options.size, options.size)
    owner = torch.arange(options.clips).repeat_interleave(options.frames)
    batch = ClipBatch(frames, owner, torch.randn(options.clips, AUDIO_WIDTH), torch.arange(options.clips)).to(device)
    times = []
    for _ in range(options.steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = plain_step(fabric, wrapped, batch, True) if parts is None else cached_step(fabric, wrapped, batch, True, parts)
        optimizer.step()
        assert torch.isfinite(loss)  # also waits for the device
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(min(times[1:]), peak / 2**30)


def apart(options: argparse.Namespace, parts: int | None) -> Measured:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, options, parts).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--frames", type=int, default=10, help="frames of each clip")
    parser.add_argument("--parts", type=int, default=8, help="clips in memory at a time, with gradient caching")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "tf32", "bf16-mixed"))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args()
    images = options.clips * options.frames
    shape = f"{options.size} px, {options.clips} clips x {options.frames} frames"
    print(f"{options.encoder} at {shape}, {options.precision}; load {os.getloadavg()[0]:.1f}")
    for name, parts in (("plain", None), (f"gradient cache, {options.parts} clips at a time", options.parts)):
        seconds, gib = apart(options, parts)
        print(f"{name}: {seconds:.2f} s a step, {images / seconds:.1f} images/s, peak {gib:.2f} GiB")


if __name__ == "__main__":
    main()
