"""The network of a trained seed as a program of ``torch.export``, which needs torch and nothing of this package.

It takes one whole window: visual (1, T, *shape), audio (1, T, *shape) and the further streams by name, float32, and returns the scores by
name, as the task's ``Scores`` has them. Windows with segments beyond a film's end need the mask, and so this package.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.errors import PipelineError
from pipeline.methods import Method

TOLERANCE = 1e-5  # of the program's scores, in shares of the largest
CHECKS = 3  # random windows on which the program and the network are compared


class WholeWindow(nn.Module):
    """A method as a plain function of the streams' tensors."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = copy.deepcopy(method).eval()
        for module in self.method.modules():
            for name, value in list(module._buffers.items()):
                if value is not None and value.dtype == torch.bool and not value.dim():  # a switch; a program has no branches
                    del module._buffers[name]
                    module.__dict__[name] = bool(value)

    def forward(self, visual: Tensor, audio: Tensor, others: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = torch.ones(visual.shape[:2], dtype=torch.bool, device=visual.device)
        return self.method.predict(Batch(visual, audio, mask, others, full=True)).tensors()


def program_of(method: Method, shapes: Mapping[str, Any], segments: int) -> bytes:
    """Export the network, and compare the program, as it is read again, with the network on random windows.

    Args:
        shapes: of one segment by stream.

    Raises:
        PipelineError: the network cannot be exported, or the program gives other scores.
    """
    network, generator = WholeWindow(method), torch.Generator().manual_seed(0)
    wanted = {"visual", "audio", *method.config.streams}

    def window() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        tensors = {name: torch.rand(1, segments, *shapes[name], generator=generator) for name in shapes if name in wanted}
        return tensors.pop("visual"), tensors.pop("audio"), tensors

    content = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(network, window())
            for module in program.graph_module.modules():
                for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
                    for record in ("stack_trace", "from_node", "nn_module_stack"):  # they name files and folders of this machine
                        node.meta.pop(record, None)
            torch.export.save(program, content)
            read = torch.export.load(io.BytesIO(content.getvalue())).module()
    except Exception as error:  # torch has many for this
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(
            f"the network cannot be exported as a program ({type(error).__name__}: {reason}); leave out --program"
        ) from error
    with torch.no_grad():
        for given in (window() for _ in range(CHECKS)):
            expected, found = network(*given), read(*given)
            for name, value in expected.items():
                off = (found[name].double() - value.double()).abs().max() / value.double().abs().max().clamp(min=1e-12)
                if not off <= TOLERANCE:
                    raise PipelineError(
                        f"the exported program gives other {name} than the network (off by {float(off):.2g} of the largest)"
                    )
    return content.getvalue()
