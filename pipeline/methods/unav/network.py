"""Network of the UnAV detector: embeddings, stem, cross-modal pyramid, dependency block and heads.

Shape letters: B clips, T steps, D width, C classes, P points of all levels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.layers.precision import at_least_float32
from pipeline.layers.pyramid import ConvolutionStack, EventDependency, PairedBlock, PyramidBlock, TimeConvolution, halved, masked
from pipeline.layers.sinusoids import sinusoids
from pipeline.methods.unav.config import UnavConfig

RELEASED_STEPS = 224  # T of the released training; its table of places is stretched to longer inputs
RARE = 0.01  # probability of every class at the start


class Level(NamedTuple):
    """Both streams of one level, beside each other: (B, T_l, 2 D), and the validity of its steps (B, T_l)."""

    fused: Tensor
    mask: Tensor


class Found(NamedTuple):
    """Outputs of the heads for all points.

    logits: (B, P, C).
    sides: (B, P, C, 2), distances to start and end in strides.
    """

    logits: Tensor
    sides: Tensor


def places(steps: int, width: int, like: Tensor, stretched: bool) -> Tensor:
    """Sinusoids of the step's number, divided by sqrt(D): (T, D).

    Args:
        stretched: released: for more than 224 steps, the table of 224 is interpolated; else the sinusoids go on.
    """
    known = min(steps, RELEASED_STEPS) if stretched else steps
    table = sinusoids(known, width, like.device) / math.sqrt(width)
    if known < steps:
        table = interpolate(table.T.unsqueeze(0), size=steps, mode="linear", align_corners=False)[0].T
    return table.to(like.dtype)


class CrossModalPyramid(nn.Module):
    """Embeds both streams, lets each attend to itself in the stem, and to the other one on every level.

    Parameters at D = 512, four heads, six levels, 2048 and 128 features: 55,513,088.
    """

    def __init__(self, config: UnavConfig, visual_width: int, audio_width: int) -> None:
        super().__init__()
        width, self.stretched, clean = config.width, config.variant == "released", config.variant == "ours"

        def stem() -> nn.ModuleList:
            blocks = (PyramidBlock(width, config.heads, 4 * width, drop_path=config.drop_path, clean=clean) for _ in range(config.stem))
            return nn.ModuleList(blocks)

        self.embed_visual, self.embed_audio = (ConvolutionStack(size, width, clean) for size in (visual_width, audio_width))
        self.stem_visual, self.stem_audio = stem(), stem()
        self.levels = nn.ModuleList(
            PairedBlock(width, config.heads, 2 if level else 1, config.drop_path, clean) for level in range(config.levels)
        )

    def embedded(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams in one width, with their places.

        (B, T, D_v), (B, T, D_a), (B, T) bool -> (B, T, D) each.
        """
        visual, audio = self.embed_visual(visual, mask), self.embed_audio(audio, mask)
        place = masked(places(visual.shape[1], visual.shape[2], visual, self.stretched).expand_as(visual), mask)
        return visual + place, audio + place

    def stemmed(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, D), (B, T) bool -> the same two after the stem."""
        for of_visual, of_audio in zip(self.stem_visual, self.stem_audio, strict=True):
            visual, audio = of_visual(visual, visual, mask), of_audio(audio, audio, mask)
        return visual, audio

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> list[Level]:
        """The levels, from streams behind the stem."""
        found = []
        for number, block in enumerate(self.levels):
            visual, audio = block(visual, audio, mask)
            mask = halved(mask) if number else mask
            found.append(Level(torch.cat([visual, audio], dim=-1), mask))
        return found


class DetectionHeads(nn.Module):
    """Class and distances of every point, by one network for all levels with a learned scale for each.

    Parameters at D = 512, C = 100 and six levels: 2,515,044 for the classes, 2,668,750 for the distances.
    """

    def __init__(self, config: UnavConfig, num_classes: int) -> None:
        super().__init__()
        clean, width = config.variant == "ours", config.width
        self.class_stack, self.side_stack = (ConvolutionStack(2 * width, width, clean) for _ in range(2))
        self.classes = TimeConvolution(width, num_classes, bias=True)
        self.sides = TimeConvolution(width, 2 * num_classes, bias=True)  # channels 2 c and 2 c + 1: start and end of class c
        self.scales = nn.Parameter(torch.ones(config.levels))
        nn.init.constant_(self.classes.bias, math.log(RARE / (1 - RARE)))  # type: ignore[arg-type]
        nn.init.zeros_(self.sides.bias)  # type: ignore[arg-type]

    def forward(self, levels: list[Level], for_sides: list[Level]) -> Found:
        """Read the classes off the first levels and the distances off the second (the same, as released)."""
        logits = [self.classes(self.class_stack(*level)) for level in levels]
        sides = [
            (at_least_float32(self.sides(self.side_stack(*level))) * scale).relu().unflatten(-1, (-1, 2))
            for level, scale in zip(for_sides, self.scales.unbind(), strict=True)
        ]
        return Found(at_least_float32(torch.cat(logits, dim=1)), torch.cat(sides, dim=1))


class Detector(nn.Module):
    """The whole network.

    Parameters at the released widths: 139,544,114, of them 78,847,232 in the dependency block.
    """

    def __init__(self, config: UnavConfig, visual_width: int, audio_width: int, num_classes: int) -> None:
        super().__init__()
        self.pyramid = CrossModalPyramid(config, visual_width, audio_width)
        self.dependency: EventDependency | None = None
        if config.dependency_width:
            fused = 2 * config.width
            self.dependency = EventDependency(fused, num_classes, config.dependency_width, config.drop_path, config.variant == "ours")
        self.heads = DetectionHeads(config, num_classes)

    def related(self, levels: list[Level]) -> list[Level]:
        """The levels after the dependency block, if there is one."""
        return levels if self.dependency is None else [Level(self.dependency(*level), level.mask) for level in levels]
