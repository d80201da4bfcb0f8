"""Bundles of tensors that are moved between devices and sliced along the batch together.

Shape letters: B batch, T segments of one clip, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from pipeline.time_grid import ONE_SECOND, TimeGrid


@dataclass
class Tensors:
    """A bundle of tensors, moved between devices and sliced along the batch together.

    Not frozen, because Fabric refuses frozen dataclasses as inputs.
    """

    def _map(self, function) -> Self:
        return replace(self, **{name: _each(function, value) for name, value in self._parts()})

    def _parts(self) -> list[tuple[str, Tensor | dict[str, Tensor]]]:
        """The fields that hold tensors, and their values."""
        values = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return [(name, value) for name, value in values if isinstance(value, Tensor | dict)]

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; those of a dict as ``field.key``."""
        found: dict[str, Tensor] = {}
        for name, value in self._parts():
            found |= {f"{name}.{key}": tensor for key, tensor in value.items()} if isinstance(value, dict) else {name: value}
        return found

    def to(self, device: torch.device | str) -> Self:
        return self._map(lambda tensor: tensor.to(device))

    def finite(self, mask: Tensor) -> Tensor:
        """Whether all values of each clip are finite: (B,) bool. Segments outside ``mask`` (B, T) do not count."""
        good = torch.ones(len(mask), dtype=torch.bool, device=mask.device)
        for tensor in self.tensors().values():
            counts = mask if tensor.shape[: mask.ndim] == mask.shape else mask.any(dim=1)
            right = torch.isfinite(tensor).reshape(*counts.shape, -1).all(dim=-1)
            good &= (right | ~counts).reshape(len(mask), -1).all(dim=1)
        return good

    def __getitem__(self, rows) -> Self:
        return self._map(lambda tensor: tensor[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join bundles along the batch; a field without tensors is as in the first part."""
        return replace(parts[0], **{name: _joined([getattr(part, name) for part in parts]) for name, _ in parts[0]._parts()})


def _each(function, value):
    """Apply to a tensor, or to each tensor of a dict."""
    return {name: function(tensor) for name, tensor in value.items()} if isinstance(value, dict) else function(value)


def _joined(values):
    if isinstance(values[0], dict):
        return {name: torch.cat([value[name] for value in values]) for name in values[0]}
    return torch.cat(values)


@dataclass
class Batch(Tensors):
    """The features of B clips.

    visual: (B, T, h, w, D_v) or (B, T, D_v), float, as the feature store holds it.
    audio: (B, T, D_a), float.
    mask: (B, T), bool; False where a segment lies beyond the end of its clip (padding).
    others: further streams of the feature set by name (``motion``), (B, T, ...) each; only those named by the method's settings.
    full: whether the host knows that ``mask`` is True everywhere. Rows of a full batch are full; to ask the mask would stop a GPU.
    grid: the moments that the T segments stand for.
    seconds: (B,), float32; length of each clip. None where the host does not know it.
    """

    visual: Tensor
    audio: Tensor
    mask: Tensor
    others: dict[str, Tensor] = field(default_factory=dict)
    full: bool = False
    grid: TimeGrid = ONE_SECOND
    seconds: Tensor | None = None
