"""Training steps that the host only queues on a GPU, where possible as one CUDA graph each.

Nothing is read back inside a step. A step's work (losses, backward pass, clipping, optimizer, sums of the loss terms) depends on the shapes
of its batch and on the method's phase. For each of these combinations the first :data:`WARM_UP` steps run operation by operation; then the
work is captured, and from there on repeated from buffers into which each batch is copied. All of them are real steps, so captured or not, a
training takes the same ones.

A loss or gradient that is not finite sets a number on the device, which makes the fused optimizer leave the weights as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.methods import Method, Progress
from pipeline.training.average import WeightAverage
from pipeline.training.capture import Graphs
from pipeline.training.steps import Fault, Outcome, Steps

WARM_UP = 3  # steps before a capture, as torch's documentation asks: libraries set themselves up in them
WINDOW = 200  # steps between two looks at the device


@dataclass
class Work:
    """The work of one kind of step.

    names: of the loss terms, in each optimizer step of a batch.
    last_terms: their values in the last skipped step.
    """

    runs: int = 0
    capturable: bool = True
    replay: Callable[[], None] | None = None
    batch: Batch | None = None
    targets: Any = None
    names: list[list[str]] = field(default_factory=list)
    last_terms: list[Tensor] = field(default_factory=list)

    def fault(self, code: int, last: bool) -> Fault:
        """Describe a skipped batch.

        Args:
            last: whether it is the last one skipped, the only one whose terms are known.
            code: 1 or 2 for the loss or the gradient of its first optimizer step, 3 or 4 for those of the second, and so on.
        """
        step, is_gradient = divmod(code - 1, 2)
        terms = dict(zip(self.names[step], self.last_terms[step].tolist(), strict=True)) if last else {}
        return Fault("gradient" if is_gradient else "loss", terms)


class StepsAhead(Steps):
    """Queues the steps of one training; what went wrong in one shows when it is read.

    Args:
        optimizer: as set up by Fabric, with the settings :func:`fused`.
        average: of the weights; a batch of which a step was skipped does not enter it.
        graphs: whether to capture.
        say: prints the line that says why steps are not captured.
    """

    def __init__(
        self, fabric: Fabric, method: Method, model: Any, optimizer: Any, clip_norm: float | None, average: WeightAverage | None,
        graphs: bool, say: Callable[[str], object],
    ) -> None:  # fmt: skip
        super().__init__(fabric, method, model, optimizer, clip_norm, average)
        self.say = say
        self.graphs = Graphs() if graphs else None
        self.said = False
        device = fabric.device
        self.code = torch.zeros((), dtype=torch.int64, device=device)  # of the current batch: 0, or which step of it went wrong, and how
        self.codes = torch.zeros(WINDOW, dtype=torch.int64, device=device)
        self.found_inf = torch.zeros((), dtype=torch.float32, device=device)
        optimizer.optimizer.grad_scale, optimizer.optimizer.found_inf = None, self.found_inf  # read by fused optimizers only
        self.rates = [torch.zeros((), dtype=torch.float32, device=device) for _ in optimizer.param_groups]
        self.rates_now = [math.nan] * len(self.rates)
        self.window: list[tuple[Tensor, Work]] = []
        self.works: dict[Hashable, Work] = {}
        self.sums: dict[str, Tensor] = {}
        self.begun: dict[str, float] = {}

    @property
    def must_be_read(self) -> bool:
        return len(self.window) == WINDOW

    def begin(self, sums: Mapping[str, float]) -> None:
        self.begun = dict(sums)
        for name, total in self.sums.items():
            total.fill_(sums.get(name, 0.0))

    def take(self, rows: Tensor, batch: Batch, targets: Tensors, progress: Progress) -> bool:
        self._set_rates()
        key = (self.method.phase(progress), _form(batch), _form(targets), batch.full)
        work = self.works.setdefault(key, Work())
        if work.replay is None and work.capturable and self.graphs is not None and work.runs >= WARM_UP:
            self._capture(work, batch, targets, progress)
        if work.replay is None:
            self._run(work, batch, targets, progress)
        else:
            assert work.batch is not None
            for into, given in ((work.batch, batch), (work.targets, targets)):
                for buffer, tensor in zip(into.tensors().values(), given.tensors().values(), strict=True):
                    buffer.copy_(tensor, non_blocking=True)
            work.replay()
        work.runs += 1
        for name in (name for names in work.names for name in names):
            self.begun.setdefault(name, 0.0)
        self.codes[len(self.window)].copy_(self.code)
        self.window.append((rows, work))
        return True

    def read(self) -> tuple[list[Outcome], dict[str, float]]:
        codes = self.codes[: len(self.window)].tolist()
        last = {id(work): place for place, ((_, work), code) in enumerate(zip(self.window, codes, strict=True)) if code}
        outcomes: list[Outcome] = [
            (rows, work.fault(code, last[id(work)] == place) if code else None)
            for place, ((rows, work), code) in enumerate(zip(self.window, codes, strict=True))
        ]
        self.window.clear()
        present = [name for name in self.begun if name in self.sums]
        values = torch.stack([self.sums[name] for name in present]).tolist() if present else []
        return outcomes, self.begun | dict(zip(present, values, strict=True))

    def release(self) -> None:
        if self.graphs is not None:
            self.graphs.release()
        self.works.clear()

    def _capture(self, work: Work, batch: Batch, targets: Tensors, progress: Progress) -> None:
        assert self.graphs is not None
        work.batch, work.targets = batch._map(torch.clone), targets._map(torch.clone)
        try:
            work.replay = self.graphs.capture(lambda: self._run(work, work.batch, work.targets, progress))
        except RuntimeError as error:
            work.capturable, work.batch, work.targets = False, None, None
            for other in self.works.values():  # their graphs are gone; they will be captured again
                other.replay = None
            if not self.said:
                self.said = True
                first = error.__context__ or error  # what the step met, not what the end of the capture says about it
                self.say(f"steps run without CUDA graphs, which is slower and gives the same weights: {_first_line(first)}")

    def _run(self, work: Work, batch: Batch | None, targets: Any, progress: Progress) -> None:
        """The work itself."""
        assert batch is not None
        self.code.zero_()
        taken = list[dict[str, Tensor]]()
        for terms in self.losses(batch, targets, progress):
            self.fabric.backward(terms["total"])
            wrong = torch.isfinite(terms["total"].detach()).logical_not()
            steep = torch.isfinite(self._largest() if self.clip_norm is None else self._clipped_norm()).logical_not()
            first = 2 * len(taken) + 1
            fault = torch.where(wrong, torch.full_like(self.code, first), steep * (first + 1))
            self.code.copy_(torch.where(self.code > 0, self.code, fault))
            self.found_inf.copy_(self.code > 0)
            with self._rates_on_device():
                self.optimizer.step()
            taken.append({name: value.detach().double() for name, value in terms.items()})
        if self.average is not None:
            self.average.update(self.code == 0)
        work.names = [list(record) for record in taken]
        self._add_up(work, [torch.stack(list(record.values())) for record in taken], len(batch.mask))

    def _add_up(self, work: Work, values: list[Tensor], clips: int) -> None:
        """Add the terms of a batch, times its clips, to the sums; those of a skipped batch are kept apart."""
        if not work.last_terms:
            work.last_terms = [torch.zeros_like(each) for each in values]
        for names, each, last in zip(work.names, values, work.last_terms, strict=True):
            for name in names:
                if name not in self.sums:
                    self.sums[name] = torch.full((), self.begun.get(name, 0.0), dtype=torch.float64, device=each.device)
            good = torch.where(self.code > 0, torch.zeros_like(each), each * clips)
            torch._foreach_add_([self.sums[name] for name in names], list(good.unbind()))
            last.copy_(torch.where(self.code > 0, each, last))

    def _set_rates(self) -> None:
        """Pass the schedules' learning rates on to the device, if they have changed."""
        for number, group in enumerate(self.optimizer.param_groups):
            if group["lr"] != self.rates_now[number]:
                self.rates[number].fill_(group["lr"])
                self.rates_now[number] = group["lr"]

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimizer read the rates from the device during the block: a graph would keep plain numbers for good."""
        groups = self.optimizer.param_groups
        plain = [group["lr"] for group in groups]
        try:
            for group, rate in zip(groups, self.rates, strict=True):
                group["lr"] = rate
            yield
        finally:
            for group, rate in zip(groups, plain, strict=True):
                group["lr"] = rate


def fused(optimizer: str) -> dict[str, bool]:
    """Settings of an optimizer, beside its rates, that :class:`StepsAhead` needs."""
    return {"fused": True} if optimizer == "sgd" else {"fused": True, "capturable": True}


def _form(tensors: Tensors) -> Hashable:
    """Type, names, shapes and dtypes of a bundle."""
    return type(tensors), tuple((name, tensor.shape, tensor.dtype) for name, tensor in tensors.tensors().items())


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error).strip() else type(error).__name__
