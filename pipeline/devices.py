"""The device of tensors, ``auto``, ``cpu`` or ``cuda``, and the number of CPU threads."""

from __future__ import annotations

import logging
import os

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


def use_own_gpu(name: str, number: int) -> None:
    """Make one of this machine's GPUs the process's current one, where ``name`` means a GPU.

    Raises:
        PipelineError: there is no GPU of this number.
    """
    if choose_device(name).type == "cuda":
        if number >= torch.cuda.device_count():
            raise PipelineError(
                f"process {number} of this machine has no GPU of its own, there are {torch.cuda.device_count()}; start fewer"
            )
        torch.cuda.set_device(number)


def use_threads(number: int | None) -> None:
    """Set the number of CPU threads of this process, in OpenMP and MKL, overriding ``OMP_NUM_THREADS``.

    Sums are split into as many parts, so their last digits depend on the number.

    Args:
        number: None leaves the choice to torch.
    """
    if number is not None:
        torch.set_num_threads(number)


def use_precision(device: torch.device, precision: str) -> None:
    """Set how a GPU multiplies float32 numbers, for the rest of this process: exactly, or with ``tf32`` as TensorFloat-32.

    torch's defaults mix both (LSTMs and convolutions round, matrix products do not). On a CPU nothing changes.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)  # it recommends tf32, which is a setting here


def use_deterministic_kernels(device: torch.device) -> None:
    """Choose kernels that give the same digits every time, for the rest of this process.

    To be called before any work on a GPU.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # it writes every new tensor once more
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.backends.cuda.enable_flash_sdp(False)  # its backward pass, and that of the next two, adds up in any order
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
