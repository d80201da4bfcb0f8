"""Where tensors live: ``auto``, ``cpu`` or ``cuda``."""

from __future__ import annotations

import torch

from pipeline.errors import PipelineError


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one; a GPU that was asked for and is missing is an error, never a silent CPU.

    Raises:
        PipelineError: ``cuda`` without a usable GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise PipelineError("device: cuda was asked for, but torch finds no usable GPU here; set device: auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
