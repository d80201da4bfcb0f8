"""The device of tensors, ``auto``, ``cpu`` or ``cuda``, and the number of CPU threads."""

from __future__ import annotations

import torch

from pipeline.errors import PipelineError


def choose_device(name: str) -> torch.device:
    """Choose the device; ``auto`` takes a GPU if there is one, and a missing ``cuda`` is an error.

    Raises:
        PipelineError: ``cuda`` without a usable GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise PipelineError("device: cuda was asked for, but torch finds no usable GPU here; set device: auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def use_threads(number: int | None) -> None:
    """Set the number of CPU threads of this process, in OpenMP and MKL, overriding ``OMP_NUM_THREADS``.

    Sums are split into as many parts, so their last digits depend on the number.

    Args:
        number: None leaves the choice to torch.
    """
    if number is not None:
        torch.set_num_threads(number)
