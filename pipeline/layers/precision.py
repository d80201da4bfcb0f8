"""Keep losses in float32, and check which half-precision operations a processor supports."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half and bfloat16 to float32; float32 and float64 stay as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@functools.cache
def processor_has_lstm(dtype: torch.dtype) -> bool:
    """Whether autocast to ``dtype`` runs an LSTM, forward and backward, on this processor.

    Under autocast PyTorch passes an LSTM to oneDNN, which raises where it has no bfloat16 kernel (below AVX-512); every other operation
    falls back. Tested by running an LSTM of a single unit, once per process, because instruction sets alone do not decide (oneDNN emulates
    bfloat16 on AVX-512 processors that lack it, and other architectures take another path). Draws no random number.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", dtype=dtype):
        weights = [torch.zeros(4, *shape, requires_grad=True) for shape in ((1,), (1,), (), ())]
        state = torch.zeros(1, 1, 1)
        try:
            output = torch.lstm(torch.zeros(1, 1, 1), [state, state], weights, True, 1, 0.0, True, False, True)[0]
            output.float().sum().backward()
        except RuntimeError:
            return False
    return True
