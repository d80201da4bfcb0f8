"""Where tensors live, ``auto``, ``cpu`` or ``cuda``, and on how many threads a CPU works on them."""

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


def use_threads(number: int | None) -> None:
    """Let this process work on so many CPU threads, in OpenMP and MKL alike, whatever ``OMP_NUM_THREADS`` says; None: torch's own choice.

    Sums are cut into as many parts, so that their last digits depend on the number.
    """
    if number is not None:
        torch.set_num_threads(number)
