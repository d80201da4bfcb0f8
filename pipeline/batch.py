"""Bundles of tensors that are moved between devices and sliced along the batch together.

Shape letters: B batch, T segments of one clip, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass
class Tensors:
    """A bundle of tensors, moved between devices and sliced along the batch together.

    Not frozen, because Fabric refuses frozen dataclasses as inputs.
    """

    def _map(self, function) -> Self:
        changes = {f.name: _each(function, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **changes)

    def to(self, device: torch.device | str) -> Self:
        return self._map(lambda tensor: tensor.to(device))

    def finite(self, mask: Tensor) -> Tensor:
        """Whether all values of each clip are finite: (B,) bool. Segments outside ``mask`` (B, T) do not count."""
        good = torch.ones(len(mask), dtype=torch.bool, device=mask.device)
        for value in (getattr(self, f.name) for f in fields(self)):
            for tensor in value.values() if isinstance(value, dict) else () if value is None else (value,):
                counts = mask if tensor.shape[: mask.ndim] == mask.shape else mask.any(dim=1)
                right = torch.isfinite(tensor).reshape(*counts.shape, -1).all(dim=-1)
                good &= (right | ~counts).reshape(len(mask), -1).all(dim=1)
        return good

    def __getitem__(self, rows) -> Self:
        return self._map(lambda tensor: tensor[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join bundles along the batch; a field that is None in the first part is None in the result."""
        present = [f.name for f in fields(cls) if getattr(parts[0], f.name) is not None]
        return replace(parts[0], **{name: _joined([getattr(part, name) for part in parts]) for name in present})


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
    """

    visual: Tensor
    audio: Tensor
    mask: Tensor
    others: dict[str, Tensor] = field(default_factory=dict)
