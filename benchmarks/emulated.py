"""How many times as long bfloat16 takes as float32 on this CPU, one thread: ``python -m benchmarks.emulated``.

Encoders run under autocast, as ``precision: bfloat16`` runs them, with random weights and channels last; seconds of CPU, the better of two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import timm
import torch
import torchvision

from pipeline.machine import described, this_machine

NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
    "ResNet-50": (torchvision.models.resnet50, (4, 3, 224, 224)),
    "VGG19": (lambda: torchvision.models.vgg19().features, (2, 3, 224, 224)),
    "EfficientNet-Lite0": (lambda: timm.create_model("tf_efficientnet_lite0"), (4, 3, 128, 128)),
}


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the better of two calls, after one that counts for nothing."""
    work()
    taken = []
    for _ in range(2):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    print(f"{described({**this_machine(), 'versions': {}})}\n\n| | float32, s | bfloat16, s | times |\n|---|---|---|---|")
    for name, (make, shape) in NETWORKS.items():
        network = make().eval().to(memory_format=torch.channels_last)
        frames = torch.rand(shape).to(memory_format=torch.channels_last)
        found = []
        for context in (nullcontext(), torch.autocast("cpu", dtype=torch.bfloat16)):
            with context:
                found.append(seconds(lambda network=network, frames=frames: network(frames)))
        print(f"| {name}, {shape[0]} frames | {found[0]:.3f} | {found[1]:.3f} | {found[1] / found[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
