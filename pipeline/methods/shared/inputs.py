"""Network inputs from a batch of stored features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from pipeline.batch import Batch
from pipeline.errors import PipelineError
from pipeline.methods.base import Method


class Inputs(NamedTuple):
    """visual (B, T, S, D_v), audio (B, T, D_a), mask (B, T) bool with at least one True per clip.

    ``full``: whether the mask is known to be True everywhere.
    """

    visual: Tensor
    audio: Tensor
    mask: Tensor
    full: bool = False

    @property
    def lengths(self) -> Tensor | None:
        """The mask, for layers that read the clips' lengths from it; None if it is known to be full."""
        return None if self.full else self.mask


def method_inputs(method: Method, batch: Batch) -> Inputs:
    """Prepare features: dtype of the method's weights, map flattened (pooled features: S = 1), padded segments zero.

    A clip of padding only becomes T valid segments of zeros, so no softmax is empty; losses leave it out by ``batch.mask``.

    Raises:
        PipelineError: the features' shape differs from the one that the method was built for.
    """
    check_shapes(method, batch)
    dtype = next(method.parameters()).dtype
    batch_size, segments = batch.mask.shape
    visual, audio = batch.visual.to(dtype).reshape(batch_size, segments, -1, method.visual_shape[-1]), batch.audio.to(dtype)
    if batch.full:
        return Inputs(visual, audio, batch.mask, full=True)
    # Zeroed, not only masked: a padded segment may hold anything, and 0 * NaN is NaN.
    visual, audio = visual.masked_fill(~batch.mask[:, :, None, None], 0.0), audio.masked_fill(~batch.mask[:, :, None], 0.0)
    return Inputs(visual, audio, batch.mask | ~batch.mask.any(dim=1, keepdim=True))


def check_shapes(method: Method, batch: Batch) -> None:
    """Raise PipelineError if the features' shape differs from the one that the method was built for."""
    for kind, features, expected in (("visual", batch.visual, method.visual_shape), ("audio", batch.audio, method.audio_shape)):
        if tuple(features.shape[2:]) != expected:
            raise PipelineError(
                f"{kind} features of shape {tuple(features.shape[2:])} per segment, but this {type(method).__name__} "
                f"was built for {expected}; train it on this feature set, or choose the set it was trained on"
            )


def vector_stream_shape(name: str | None, shapes: Mapping[str, tuple[int, ...]] | None) -> tuple[int, ...] | None:
    """Shape (D,) per segment of the further stream that a method's settings name; None if they name none.

    Raises:
        PipelineError: the stream is not one vector per segment.
    """
    shape = None if name is None else tuple((shapes or {})[name])
    if shape is not None and len(shape) != 1:
        raise PipelineError(f"the stream {name} has the shape {shape} per segment; one vector is needed")
    return shape


def vector_stream(method: Method, batch: Batch, name: str, expected: tuple[int, ...] | None) -> Tensor:
    """A further stream of a batch, (B, T, D) in its stored dtype.

    Raises:
        PipelineError: it is missing, or has another shape than ``expected``.
    """
    stream = batch.others.get(name)
    if stream is None or tuple(stream.shape[2:]) != expected:
        shape = "none" if stream is None else f"of shape {tuple(stream.shape[2:])}"
        raise PipelineError(f"{name} features: {shape}, but this {type(method).__name__} needs {expected}")
    return stream


def positions(visual_shape: tuple[int, ...]) -> int:
    """S, the number of spatial positions: h*w for (h, w, D_v), 1 for (D_v,)."""
    return visual_shape[0] * visual_shape[1] if len(visual_shape) == 3 else 1
