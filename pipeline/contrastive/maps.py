"""What the steps of a fine-tuning read: frames, or the maps that the frozen blocks make of them, computed once.

With ``train_last`` the blocks before the first that learns are constants, their batch norms in eval mode, and no frame is augmented: their
maps of a frame are the same in every epoch. Kept in a file, in float32, they leave a step the blocks that learn, with the same gradients.

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
from pipeline.contrastive.data import Draw, Item, load_frames
from pipeline.encoders import VisualEncoder
from pipeline.encoders.images import ImageEncoder
from pipeline.features.lanes import load_ahead
from pipeline.features.store import write_entries


@dataclass(frozen=True)
class CutNetwork:
    """A network whose modules one after the other make its map: those that are frozen, and the rest from the first that learns."""

    frozen: tuple[nn.Module, ...]
    rest: tuple[nn.Module, ...]

    def begin(self, frames: Tensor) -> Tensor:
        """(F, 3, h, w) -> (F, c, y, x)."""
        return _through(self.frozen, frames)

    def finish(self, maps: Tensor) -> Tensor:
        """(F, c, y, x) -> (F, D, h, w)."""
        return _through(self.rest, maps)


def cut_network(encoder: VisualEncoder, units: list[nn.Module], used: set[int], learning: set[int]) -> CutNetwork | None:
    """Cut before the first unit that learns; None where that is the first, or where the units in turn do not make the encoder's map.

    Args:
        units: parts of the network in the order of their use.
        used, learning: ids of the parameters that the map depends on, and of those that are trained.
    """
    if not isinstance(encoder, ImageEncoder):
        return None
    last = max(number for number, unit in enumerate(units) if _holds(unit, used))
    first = next((number for number, unit in enumerate(units) if _holds(unit, learning) or _draws_at_random(unit)), last + 1)
    if first == 0:
        return None
    for stop in range(last + 1, len(units) + 1):  # behind the last weights there may be an activation or a pooling
        if _makes_the_map(encoder, units[:stop]):
            return CutNetwork(tuple(units[:first]), tuple(units[first:stop]))
    return None


def _holds(unit: nn.Module, parameters: set[int]) -> bool:
    return any(id(parameter) in parameters for parameter in unit.parameters())


def _draws_at_random(unit: nn.Module) -> bool:
    """A dropout in a unit without weights follows the network into train mode."""
    dropout = any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in unit.modules())
    return dropout and not list(unit.parameters())


@torch.no_grad()
def _makes_the_map(encoder: ImageEncoder, units: list[nn.Module]) -> bool:
    """Tried on a frame of noise, in eval mode."""
    encoder.eval()
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    frame = encoder.prepare(torch.from_numpy(noise)).to(next(encoder.parameters()).device)
    try:
        made = _through(tuple(units), frame)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):  # the network does more than call them in turn
        return False
    expected = encoder.feature_map(frame)
    return made.shape == expected.shape and torch.allclose(made, expected, rtol=1e-5, atol=1e-6)


def _through(units: tuple[nn.Module, ...], batch: Tensor) -> Tensor:
    for unit in units:
        batch = unit(batch)
    return batch


class DrawSource(Protocol):
    """Gives what the model takes for the frames of each draw."""

    def of(self, draws: list[Draw]) -> Iterator[tuple[Draw, Tensor]]:
        """In their order, read ahead of the consumer."""
        ...


@dataclass(frozen=True)
class FrameSource:
    """The frames themselves, (F, 3, h, w), prepared by the encoder."""

    cache: Cache
    encoder: VisualEncoder

    def of(self, draws: list[Draw]) -> Iterator[tuple[Draw, Tensor]]:
        return load_ahead(lambda draw: load_frames(self.cache, self.encoder, draw), draws)


class MapSource:
    """The frozen maps of frames, (F, c, y, x) float32: of a clip's all at once, when the first of them is asked for.

    Args:
        frames: where frames come from.
        begin: frames of one pass -> their frozen maps, on the CPU.
        kept: the frames of each clip that may be asked for, by its id.
        shape: (c, y, x).
        at_once: frames of one pass: the same in every run, so that a resumed one computes the same bytes.
        directory: where the file lies; it has no name there and goes with the process, however that ends.
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
        self.file = np.memmap(self.stream, np.float32, "r", shape=(count, *shape))  # read by it alone

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
        """All frames of the draw's clip, where their maps are still to be made."""
        clip = draw.item.clip
        return None if clip in self.done else load_frames(self.frames.cache, self.frames.encoder, self.kept[clip])


def size_in_gb(kept: Mapping[str, Draw], shape: tuple[int, ...]) -> float:
    """Of the file of :class:`MapSource`, in 10^9 bytes."""
    return sum(len(draw.frames) for draw in kept.values()) * math.prod(shape) * 4 / 1e9


def draw_all(item: Item) -> Draw:
    """Every decoded frame of the usable segments."""
    per_segment = item.job.settings.frames_per_segment(item.job.segment_seconds)
    return Draw(item, item.segments, tuple(segment * per_segment + frame for segment in item.segments for frame in range(per_segment)))
