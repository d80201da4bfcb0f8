"""Streams on three time scales, and back on the segments.

Jiang, Xu, Chen, Zhang, Song, Shen, Zhu, "DHHN: Dual Hierarchical Hybrid Network for Weakly-Supervised Audio-Visual Video Parsing" (ACM MM
2022), as released. Shape letters: B clips, T segments, T' cells of a coarser scale, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.layers.precision import at_least_float32


class ValidBatchNorm(nn.Module):
    """Batch norm over time whose mean and variance are those of valid places alone.

    In training they are the batch's, and move the stored ones by a tenth; in inference they are the stored ones.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_variance", torch.ones(width))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T) bool -> (B, T, D), in float32 at least; padded places mean nothing."""
        with torch.autocast(values.device.type, enabled=False):
            values = at_least_float32(values)
            mean, variance = self._of_batch(values, mask) if self.training else (self.running_mean, self.running_variance)
            return (values - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias

    def _of_batch(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        padding, count = ~mask.unsqueeze(-1), mask.sum()
        mean = values.masked_fill(padding, 0.0).sum(dim=(0, 1)) / count.clamp(min=1)
        variance = (values - mean).square().masked_fill(padding, 0.0).sum(dim=(0, 1)) / count.clamp(min=1)
        with torch.no_grad():  # nothing is asked of the tensors: a batch of padding alone moves the stored ones by 0
            step = self.momentum * (count > 0)
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean += step * (mean - self.running_mean)
            self.running_variance += step * (unbiased - self.running_variance)
        return mean, variance


class ScaleBranch(nn.Module):
    """A stream on a coarser scale: ReLU(BN(convolution over time)), without a bias and without a skip.

    The first cell stands for the first segment and its neighbours, the next one for those ``stride`` segments later: no cell of five
    segments with a stride of five reads the last two of ten.

    Args:
        width: D.
        kernel: odd number of segments that a cell reads, its own in the middle.
        stride: segments from one cell to the next.
    """

    def __init__(self, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv1d(width, width, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = ValidBatchNorm(width)

    def forward(self, stream: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), padded segments zero, (B, T) bool -> (B, T', D).

        T' = (T - 1) // stride + 1.
        """
        cells = self.convolution(stream.transpose(1, 2)).transpose(1, 2)
        return self.norm(cells, mask[:, :: self.stride]).relu()


def on_segments(cells: Tensor, mask: Tensor, stride: int) -> Tensor:
    """Lay a clip's n' valid cells over its n valid segments: segment t shows cell t n' // n ("nearest").

    Args:
        cells: (B, T', D).
        mask: of the segments, (B, T), bool, with a True in every clip.

    Returns:
        (B, T, D); padded segments mean nothing.
    """
    segments, found = mask.sum(dim=1, keepdim=True), mask[:, ::stride].sum(dim=1, keepdim=True)
    place = torch.arange(mask.shape[1], device=mask.device) * found // segments  # (B, T)
    return cells.gather(1, torch.minimum(place, found - 1).unsqueeze(-1).expand(-1, -1, cells.shape[2]))
