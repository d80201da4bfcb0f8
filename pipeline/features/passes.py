"""Run the rows of many clips through an encoder in passes of one fixed size.

The last bits of a network's output depend on the batch size (another size may take another algorithm), but not on a row's place in the
batch or on its neighbours: measured on the CPU for every encoder, and held by a test. So every pass has the same size, the last one padded
with zeros, and a clip's features are the same bytes whichever clips shared its passes.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.encoders import Encoder, VisualEncoder
from pipeline.errors import PipelineError

CPU_PASS = 4  # rows; larger passes overflow the processor's caches (EfficientNet-Lite0 in float32: 73 frames/s per core at 4, 54 at 8)
Owner = TypeVar("Owner")


@dataclass(frozen=True)
class Pass(Generic[Owner]):
    """The ``rows`` of one pass, (N, *input), and their owners in order: (owner, number of rows)."""

    rows: Tensor
    shares: list[tuple[Owner, int]]


class Packer(Generic[Owner]):
    """Cuts the rows of successive owners into passes of ``size``; one owner's rows may span several."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._rows: list[Tensor] = []
        self._shares: list[tuple[Owner, int]] = []

    def add(self, owner: Owner, rows: Tensor) -> Iterator[Pass[Owner]]:
        """Add an owner's rows; yield each pass that they fill."""
        while len(rows):
            room = self.size - sum(count for _, count in self._shares)
            taken, rows = rows[:room], rows[room:]
            self._rows.append(taken)
            self._shares.append((owner, len(taken)))
            if len(taken) == room:
                yield from self.rest()

    def rest(self) -> Iterator[Pass[Owner]]:
        """Yield the remaining rows, if any, as one smaller pass."""
        if self._shares:
            rows, shares, self._rows, self._shares = self._rows, self._shares, [], []
            yield Pass(torch.cat(rows), shares)


class PassEncoder:
    """An encoder on a device.

    Args:
        batch_size: largest number of rows in one pass; on a CPU at most :data:`CPU_PASS`.
        precision: ``bfloat16`` runs the network under autocast, with float32 weights and output. ``float32`` is float32 on a GPU too,
            not TF32.
    """

    def __init__(self, encoder: Encoder, device: torch.device, precision: Literal["float32", "bfloat16"], batch_size: int) -> None:
        self.encoder = encoder.to(device)
        self._memory_format = encoder.memory_format if isinstance(encoder, VisualEncoder) else torch.contiguous_format
        self.encoder.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self.device = device
        self.precision = precision
        self.size = min(batch_size, CPU_PASS) if device.type == "cpu" else batch_size
        self._fits = self.size  # rows that fit into memory, as far as known
        self._frozen: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {}  # by the shape of a pass
        self._freezing = threading.Lock()
        self._freezes = encoder.traceable and device.type == "cpu" and precision == "float32"

    def __call__(self, rows: Tensor) -> Tensor:
        """Encode (N, *input) to (N, *output_shape), float32 on the CPU.

        When memory runs out, the pass is halved and the work goes on; the numbers stay the same up to float32 rounding.

        Raises:
            PipelineError: not even one row fits into memory.
        """
        while True:
            size = self._fits
            try:
                with torch.inference_mode(), self._arithmetic():
                    return torch.cat([self._one_pass(chunk, size) for chunk in rows.split(size)])
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if size == 1:
                    raise PipelineError(
                        f"encoder {self.encoder.name}: not even one row of {tuple(rows.shape[1:])} fits into the memory of {self.device}; "
                        "choose a smaller image_size or another device"
                    ) from error
            torch.cuda.empty_cache()  # outside the handler: the exception holds the tensors that did not fit
            self._fits = min(self._fits, size // 2)
            tqdm.write(f"extract: {self.encoder.name}: {size} rows do not fit into the memory of {self.device}; going on with {self._fits}")

    def _one_pass(self, chunk: Tensor, size: int) -> Tensor:
        filled = chunk if len(chunk) == size else torch.cat([chunk, chunk.new_zeros(size - len(chunk), *chunk.shape[1:])])
        filled = filled.to(self.device).contiguous(memory_format=self._memory_format)
        encode = self._frozen_for(filled) if self._freezes else self.encoder.encode
        return encode(filled)[: len(chunk)].float().cpu()

    def _frozen_for(self, rows: Tensor) -> Callable[[Tensor], Tensor]:
        """Freeze ``encode`` for passes of this shape.

        Batch norms are folded into the convolutions before them and weights become constants: a fifth to a third faster on a CPU
        (benchmarks/RESULTS.md), equal up to float32 rounding.
        """
        with self._freezing:
            shape = tuple(rows.shape)
            if shape not in self._frozen:
                self._frozen[shape] = _freeze(self.encoder, rows)
            return self._frozen[shape]

    @contextlib.contextmanager
    def _arithmetic(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if self.device.type == "cuda":
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
            stack.enter_context(torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"))
            yield


class _Encode(nn.Module):
    """Offers ``encoder.encode`` as the ``forward`` that tracing needs."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, rows: Tensor) -> Tensor:
        return self.encoder.encode(rows)


def _freeze(encoder: Encoder, rows: Tensor) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():  # the tracer warns about shape checks, but the shape is fixed here
        warnings.simplefilter("ignore")
        try:
            return torch.jit.freeze(torch.jit.trace(_Encode(encoder).eval(), rows, check_trace=False))
        except Exception as error:
            if _out_of_memory(error):
                raise
            return encoder.encode  # a network that cannot be traced runs unfrozen


def _out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: torch has an exception for GPUs, but raises a plain RuntimeError on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
