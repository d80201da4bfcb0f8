"""Inputs of the fine-tuning steps: frames, or their maps after the frozen blocks, computed once.

With ``train_last`` the blocks before the first trainable one are constant, their batch norms are in eval mode, and frames are not
augmented: a frame has the same map in every epoch. The maps are kept in a float32 file, so a step runs the trainable blocks alone, with
the same gradients.

Shape letters: F frames, (c, y, x) a frozen map, (D, h, w) the last one.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.cache import Cache
from pipeline.contrastive.data import Draw, Item, load_frames, load_sounds
from pipeline.encoders import AudioEncoder, VisualEncoder
from pipeline.encoders.images import ImageEncoder
from pipeline.features.lanes import load_ahead
from pipeline.features.store import write_entries


@dataclass(frozen=True)
class CutNetwork:
    """A sequential network split at its first trainable module."""

    frozen: tuple[nn.Module, ...]
    rest: tuple[nn.Module, ...]

    def begin(self, frames: Tensor) -> Tensor:
        """Run the frozen modules: (F, 3, h, w) -> (F, c, y, x)."""
        return _through(self.frozen, frames)

    def finish(self, maps: Tensor) -> Tensor:
        """Run the rest: (F, c, y, x) -> (F, D, h, w)."""
        return _through(self.rest, maps)


def cut_network(encoder: VisualEncoder, units: list[nn.Module], used: set[int], learning: set[int]) -> CutNetwork | None:
    """Cut before the first trainable unit; None if the network cannot be cut.

    It cannot if its very first unit is trainable, or if the units in sequence do not give the encoder's map.

    Args:
        units: parts of the network in the order of their use.
        used, learning: ids of the parameters that the map depends on, and of the trained parameters.
    """
    if not isinstance(encoder, ImageEncoder):
        return None
    last = max(number for number, unit in enumerate(units) if _holds(unit, used))
    first = next((number for number, unit in enumerate(units) if _holds(unit, learning) or _draws_at_random(unit)), last + 1)
    if first == 0:
        return None
    for stop in range(last + 1, len(units) + 1):  # an activation or a pooling may follow the last weights
        if _makes_the_map(encoder, units[:stop]):
            return CutNetwork(tuple(units[:first]), tuple(units[first:stop]))
    return None


def _holds(unit: nn.Module, parameters: set[int]) -> bool:
    return any(id(parameter) in parameters for parameter in unit.parameters())


def _draws_at_random(unit: nn.Module) -> bool:
    """Tell whether a unit without weights contains dropout, which follows the network into train mode."""
    dropout = any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in unit.modules())
    return dropout and not list(unit.parameters())


@torch.no_grad()
def _makes_the_map(encoder: ImageEncoder, units: list[nn.Module]) -> bool:
    """Tell whether the units in sequence give the encoder's map, by trying a frame of noise in eval mode."""
    encoder.eval()
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    frame = encoder.prepare(torch.from_numpy(noise)).to(next(encoder.parameters()).device)
    try:
        made = _through(tuple(units), frame)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):  # the network is not sequential
        return False
    expected = encoder.feature_map(frame)
    return made.shape == expected.shape and torch.allclose(made, expected, rtol=1e-5, atol=1e-6)


def _through(units: tuple[nn.Module, ...], batch: Tensor) -> Tensor:
    for unit in units:
        batch = unit(batch)
    return batch


class DrawSource(Protocol):
    """A source of the model's input for each draw."""

    def of(self, draws: list[Draw]) -> Iterator[tuple[Draw, Tensor]]:
        """Yield each draw with its input, in order, read ahead of the consumer."""
        ...


@dataclass(frozen=True)
class FrameSource:
    """A source of frames, (F, 3, h, w), prepared by the encoder."""

    cache: Cache
    encoder: VisualEncoder

    def of(self, draws: list[Draw]) -> Iterator[tuple[Draw, Tensor]]:
        return load_ahead(lambda draw: load_frames(self.cache, self.encoder, draw), draws)


@dataclass(frozen=True)
class SoundSource:
    """A source of the sound of the drawn segments, (S, *input), prepared by the audio encoder."""

    cache: Cache
    encoder: AudioEncoder

    def of(self, draws: list[Draw]) -> Iterator[tuple[Draw, Tensor]]:
        return load_ahead(lambda draw: load_sounds(self.cache, self.encoder, draw), draws)


class MapSource:
    """A source of the frozen maps of frames, (F, c, y, x) float32.

    The maps of all of a clip's frames are computed when the first of them is needed.

    Args:
        frames: source of the frames.
        begin: frames of one pass -> their frozen maps, on the CPU.
        kept: by clip id, the frames that may be needed.
        shape: (c, y, x).
        at_once: frames in one pass: the same in every run, so a resumed run computes the same bytes.
        directory: place of the file, which has no name there and vanishes with the process, however that ends.
    """

    def __init__(
        self, frames: FrameSource, begin: Callable[[Tensor], Tensor], kept: Mapping[str, Draw], shape: tuple[int, ...], at_once: int,
        directory: Path,
    ) -> None:  # fmt: skip
        self.frames, self.begin, self.kept, self.at_once = frames, begin, kept, at_once
        self.rows: dict[str, dict[int, int]] = {}  # clip -> frame -> row of the file
        self.done: set[str] = set()
        count = 0
        for clip, draw in kept.items():
            self.rows[clip] = {frame: count + number for number, frame in enumerate(draw.frames)}
            count += len(draw.frames)
        self.bytes_of_row = math.prod(shape) * 4
        self.stream = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        os.posix_fallocate(self.stream.fileno(), 0, max(1, count * self.bytes_of_row))  # a full disk is an error now, not a signal later
        self.file = np.memmap(self.stream, np.float32, "r", shape=(count, *shape))  # for reading; writes go to the stream

    def of(self, draws: list[Draw]) -> Iterator[tuple[Draw, Tensor]]:
        for draw, frames in load_ahead(self._missing, draws):
            clip = draw.item.clip
            if frames is not None and clip not in self.done:
                first = min(self.rows[clip].values())
                self.stream.seek(first * self.bytes_of_row)
                write_entries(self.stream, torch.cat([self.begin(part) for part in frames.split(self.at_once)]).float().numpy())
                self.done.add(clip)
            yield draw, torch.from_numpy(self.file[[self.rows[clip][frame] for frame in draw.frames]])

    def _missing(self, draw: Draw) -> Tensor | None:
        """Load all frames of the draw's clip, unless their maps are in the file already."""
        clip = draw.item.clip
        return None if clip in self.done else load_frames(self.frames.cache, self.frames.encoder, self.kept[clip])


def size_in_gb(kept: Mapping[str, Draw], shape: tuple[int, ...]) -> float:
    """Size of the file of :class:`MapSource`, in 10^9 bytes."""
    return sum(len(draw.frames) for draw in kept.values()) * math.prod(shape) * 4 / 1e9


def draw_all(item: Item) -> Draw:
    """Take every decoded frame of the usable segments."""
    per_segment = item.job.settings.frames_per_segment(item.job.segment_seconds)
    return Draw(item, item.segments, tuple(segment * per_segment + frame for segment in item.segments for frame in range(per_segment)))
