"""Run the rows of many clips through an encoder in passes of one fixed size.

The last bits of a network's output depend on the batch size (another size may take another algorithm), but not on a row's place in the
batch or on its neighbours: measured on the CPU for every encoder, and held by a test. So every pass has the same size, the last one padded
with zeros, and a clip's features are the same bytes whichever clips shared its passes. On a GPU the same was seen in float32 and bfloat16;
in tf32 the neighbours move the last digits.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.encoders import Encoder, VisualEncoder
from pipeline.errors import PipelineError
from pipeline.features.card import Card
from pipeline.features.settings import Precision

CPU_PASS = 4  # rows; larger passes overflow the processor's caches (EfficientNet-Lite0 in float32: 73 frames/s per core at 4, 54 at 8)
Owner = TypeVar("Owner")


@dataclass(frozen=True)
class Pass(Generic[Owner]):
    """The rows of one pass in pieces, (N, *input) each, and every piece's share: (owner, number of rows)."""

    pieces: list[Tensor]
    shares: list[tuple[Owner, int]]


class Packer(Generic[Owner]):
    """Cuts the rows of successive owners into passes of ``size``; one owner's rows may span several."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pieces: list[Tensor] = []
        self._shares: list[tuple[Owner, int]] = []

    def add(self, owner: Owner, rows: Tensor) -> Iterator[Pass[Owner]]:
        """Add an owner's rows; yield each pass that they fill."""
        while len(rows):
            room = self.size - sum(count for _, count in self._shares)
            taken, rows = rows[:room], rows[room:]
            self._pieces.append(taken)
            self._shares.append((owner, len(taken)))
            if len(taken) == room:
                yield from self.rest()

    def rest(self) -> Iterator[Pass[Owner]]:
        """Yield the remaining rows, if any, as one smaller pass."""
        if self._shares:
            full = Pass(self._pieces, self._shares)
            self._pieces, self._shares = [], []
            yield full


def pass_size(batch_size: int, device: str) -> int:
    """Rows of every pass on a kind of device, "cpu" or "cuda"."""
    return min(batch_size, CPU_PASS) if device == "cpu" else batch_size


class PassEncoder:
    """An encoder on a device.

    Args:
        precision: of the networks' arithmetic. ``bfloat16`` runs the network under autocast, with float32 weights and output.
            ``float32`` is float32 on a GPU too; ``tf32`` lets a GPU round the factors of its products to 10 bits, and is float32 on a CPU.
        batch_size: largest number of rows in one pass; on a CPU at most :data:`CPU_PASS`.
        card: the streams of ``device``; None sends and waits for each pass.
    """

    def __init__(self, encoder: Encoder, device: torch.device, precision: Precision, batch_size: int, card: Card | None = None) -> None:
        self.encoder = encoder.to(device)
        self._memory_format: torch.memory_format = torch.contiguous_format
        if isinstance(encoder, VisualEncoder) and not (device.type == "cuda" and precision == "float32"):
            self._memory_format = encoder.memory_format  # in full float32 a GPU is faster without (benchmarks/RESULTS.md)
        self.encoder.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self.device = device
        self.precision = precision
        self.card = card
        self.size = pass_size(batch_size, device.type)
        self._fits = self.size  # rows that fit into memory, as far as known
        self._frozen: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {}  # by the shape of a pass
        self._freezing = threading.Lock()
        self._freezes = encoder.traceable and device.type == "cpu" and precision != "bfloat16"

    def __call__(self, rows: Tensor) -> Tensor:
        """Encode (N, *input) to (N, *output_shape), float32 on the CPU; see :meth:`launch`."""
        return self.launch([rows]).cpu()

    def launch(self, pieces: Sequence[Tensor]) -> Tensor:
        """Encode (N, *input), given in pieces, to (N, *output_shape), float32 on the device.

        With a card this only queues the work. Pieces of uint8 are frames as ``VisualEncoder.arrange`` gives them, prepared on the device.
        When memory runs out, the pass is halved and the work goes on; the numbers stay the same up to float32 rounding. (A device's memory
        is taken when work is queued, not when it runs, so a pass that does not fit fails here.)

        Raises:
            PipelineError: not even one row fits into memory.
        """
        while True:
            size = self._fits
            try:
                with torch.inference_mode(), arithmetic(self.device, self.precision):
                    outputs = [self._one_pass(chunk, size) for chunk in _chunks(pieces, size)]
                    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if size == 1:
                    raise PipelineError(
                        f"encoder {self.encoder.name}: not even one row of {tuple(pieces[0].shape[1:])} fits into the memory of "
                        f"{self.device}; choose a smaller image_size or another device"
                    ) from error
            self.make_room()  # outside the handler: the exception holds the tensors that did not fit
            self._fits = min(self._fits, size // 2)
            tqdm.write(f"extract: {self.encoder.name}: {size} rows do not fit into the memory of {self.device}; going on with {self._fits}")

    def make_room(self) -> None:
        """Wait for the passes on the device, and give back the memory that torch keeps for later ones."""
        if self.card:
            self.card.finish()
        torch.cuda.empty_cache()

    def _one_pass(self, pieces: Sequence[Tensor], size: int) -> Tensor:
        count = sum(map(len, pieces))
        with self.card.one_pass(pieces) if self.card else nullcontext([piece.to(self.device) for piece in pieces]) as rows:
            filled = self._filled(rows, size)
            encode = self._frozen_for(filled) if self._freezes else self.encoder.encode
            return encode(filled)[:count].float()

    def _filled(self, pieces: Sequence[Tensor], size: int) -> Tensor:
        """Lay the prepared rows of all pieces into one batch of ``size`` in the network's memory layout, zeros behind them."""
        filled, place = None, 0
        for piece in pieces:
            rows = self._prepared(piece)
            if filled is None:
                filled = torch.empty(size, *rows.shape[1:], dtype=rows.dtype, device=rows.device, memory_format=self._memory_format)
            filled[place : place + len(rows)] = rows
            place += len(rows)
        assert filled is not None
        filled[place:] = 0
        return filled

    def _prepared(self, piece: Tensor) -> Tensor:
        if piece.dtype != torch.uint8:
            return piece
        assert isinstance(self.encoder, VisualEncoder)
        return self.encoder.prepare_on_device(piece)

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


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute in ``precision`` within the block, on a GPU with deterministic algorithms.

    Only torch's new settings of the precision are used: with the old ones (``allow_tf32``) it warns, and refuses to mix the two.
    """
    with ExitStack() as stack:
        if device.type == "cuda":
            product = "tf32" if precision == "tf32" else "ieee"
            # An algorithm chosen by measuring may differ from run to run, and with it the digits: `benchmark` stays off.
            for place, name, value in (
                (torch.backends.cudnn, "deterministic", True),
                (torch.backends.cudnn, "benchmark", False),
                (torch.backends.cudnn.conv, "fp32_precision", product),  # type: ignore[attr-defined]
                (torch.backends.cuda.matmul, "fp32_precision", product),
            ):
                stack.callback(setattr, place, name, getattr(place, name))
                setattr(place, name, value)
        if precision == "bfloat16":
            stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
        yield


def _chunks(pieces: Sequence[Tensor], size: int) -> Iterator[list[Tensor]]:
    packer: Packer[None] = Packer(size)
    for piece in pieces:
        yield from (chunk.pieces for chunk in packer.add(None, piece))
    yield from (chunk.pieces for chunk in packer.rest())


class _Encode(nn.Module):
    """Offers ``encoder.encode`` as the ``forward`` that tracing needs.

    It holds no encoder: the tracer would convert module after module, which takes three times as long as all the rest.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encode = encoder.encode

    def forward(self, rows: Tensor) -> Tensor:
        return self._encode(rows)


def _freeze(encoder: Encoder, rows: Tensor) -> Callable[[Tensor], Tensor]:
    learning = [weight for weight in encoder.parameters() if weight.requires_grad]
    with warnings.catch_warnings():  # the tracer warns about shape checks, but the shape is fixed here
        warnings.simplefilter("ignore")
        try:
            for weight in learning:
                weight.requires_grad_(False)  # the tracer takes no others for constants
            return torch.jit.freeze(torch.jit.trace(_Encode(encoder).eval(), rows, check_trace=False))
        except Exception as error:
            if out_of_memory(error):
                raise
            return encoder.encode  # a network that cannot be traced runs unfrozen
        finally:
            for weight in learning:
                weight.requires_grad_(True)


# What else torch says when memory runs out: on a CPU; when cuBLAS or cuDNN want some; when no convolution algorithm has enough of it.
_NO_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "unable to find an engine to execute")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: torch has an exception for GPUs, but often raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in _NO_MEMORY)
