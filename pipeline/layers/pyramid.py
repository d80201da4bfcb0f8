"""Blocks of the UnAV detector: a pyramid of two streams over time.

Each level is half as long as the one before.

Geng, Wang, Duan, Zheng, "Dense-Localizing Audio-Visual Events in Untrimmed Videos: A Large-Scale Benchmark and Baseline", CVPR 2023.

Every layer masks its padding, as released, but LayerNorm fills it again: behind the last valid step stands the norm's bias, which the next
convolution reads, so a clip that just fills the frame differs from the same clip with padding behind it. ``clean`` masks after every norm
and lets the pooling leave padding out; then padding is the same as the end of the frame, and its length changes nothing.

Shape letters: B batch, T steps, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

BRANCH_SCALE = 1e-4  # at the start, of every residual branch


def halved(mask: Tensor) -> Tensor:
    """Validity of the next level's steps: (B, T) -> (B, ceil(T / 2))."""
    return mask[:, ::2]


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D) with padded steps set to zero."""
    return values.masked_fill(~mask.unsqueeze(-1), 0.0)


def halved_maximum(values: Tensor) -> Tensor:
    """Maximum of three neighbouring steps around every second one: (B, T, D) -> (B, ceil(T / 2), D).

    As torch's pooling, whose gradient on a GPU depends on the order of its additions.
    """
    steps, padded = values.shape[1], pad(values, (0, 0, 1, 1), value=float("-inf"))
    before, here, after = (padded[:, shift : shift + steps : 2] for shift in range(3))
    return torch.maximum(torch.maximum(before, here), after)


class TimeConvolution(nn.Conv1d):
    """Convolution over three neighbouring steps with zeros at both ends: (B, T, D) -> (B, T, D')."""

    def __init__(self, width: int, output_width: int, bias: bool = False) -> None:
        super().__init__(width, output_width, kernel_size=3, padding=1, bias=bias)

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values.transpose(1, 2)).transpose(1, 2)


class DepthwiseConvolution(nn.Module):
    """Convolution over three neighbouring steps, channel by channel, without a bias, as three shifted products.

    ``weight``: (3, D), initialized as torch initializes a convolution of one channel.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(3, width).uniform_(-(3**-0.5), 3**-0.5))

    def forward(self, values: Tensor) -> Tensor:
        """(B, T, D) -> (B, ceil(T / stride), D)."""
        steps, padded = values.shape[1], pad(values, (0, 0, 1, 1))
        before, here, after = (padded[:, shift : shift + steps : self.stride] for shift in range(3))
        return before * self.weight[0] + here * self.weight[1] + after * self.weight[2]


class ConvolutionStack(nn.Module):
    """Two rounds of convolution, mask, LayerNorm, ReLU: the embeddings and the bodies of the heads."""

    def __init__(self, width: int, output_width: int, clean: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(TimeConvolution(size, output_width) for size in (width, output_width))
        self.norms = nn.ModuleList(nn.LayerNorm(output_width) for _ in range(2))
        self.clean = clean

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T) bool -> (B, T, D')."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            values = norm(masked(convolution(values), mask)).relu()
            if self.clean:
                values = masked(values, mask)
        return values


class DropPath(nn.Module):
    """Stochastic depth: leave a residual branch out, sample by sample; kept ones are scaled by 1 / (1 - share)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) -> the same."""
        if not self.training or self.share == 0:
            return branch
        kept = torch.rand(len(branch), *[1] * (branch.ndim - 1), device=branch.device) >= self.share
        return branch * kept / (1 - self.share)


class PyramidBlock(nn.Module):
    """Attention of one stream's queries to another's keys and values, and an MLP, on a residual path.

    x is the own stream (keys, values, skip), o the other one (queries); both may be the same.

    1. u = LN(x), u' = LN(o); q = L(LN(DW(u'))), k = L(LN(DW(u))), v = L(LN(DW(u))), where the depth-wise convolutions have the stride
    2. y = skip(x) + a * Drop(L(softmax(q k / sqrt(D / heads)) v)), where skip pools three steps to their maximum if the stride is 2
    3. y + a' * Drop(L(GELU(L(LN(y)))))

    a, a' weigh every channel and start at 1e-4. Parameters with an MLP of 4 D: 12 D^2 + 32 D.

    Args:
        width: D.
        heads: of the attention.
        hidden: width of the MLP.
        stride: 1, or 2 to halve the number of steps.
        drop_path: share of the samples that leave a branch out in training.
        clean: let no padding through (see the head of the file).
    """

    def __init__(self, width: int, heads: int, hidden: int, stride: int = 1, drop_path: float = 0.1, clean: bool = True) -> None:
        super().__init__()
        self.heads, self.stride, self.clean = heads, stride, clean
        self.own_norm, self.other_norm, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.convolutions = nn.ModuleDict({name: DepthwiseConvolution(width, stride) for name in ("query", "key", "value")})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in ("query", "key", "value")})
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.attention_scale, self.mlp_scale = (nn.Parameter(torch.full((width,), BRANCH_SCALE)) for _ in range(2))
        self.drop_path = DropPath(drop_path)
        for layer in (self.query, self.key, self.value, self.output, *self.mlp):
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    def forward(self, own: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Run the block.

        Args:
            own, other: (B, T, D).
            mask: (B, T), bool, with at least one True, and none behind a False.

        Returns:
            (B, ceil(T / stride), D), zero in padding.
        """
        after = mask if self.stride == 1 else halved(mask)
        own_normed, other_normed = self.own_norm(own), self.other_norm(other)
        if self.clean:
            own_normed, other_normed = masked(own_normed, mask), masked(other_normed, mask)
        query, key = self._projected("query", other_normed, after), self._projected("key", own_normed, after)
        value = masked(self._projected("value", own_normed, after), after)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        found = scaled_dot_product_attention(query, key, value, attn_mask=after[:, None, None, :]).transpose(1, 2).flatten(-2)
        hidden = self._skipped(own, mask, after) + self.attention_scale * self.drop_path(masked(self.output(found), after))
        return hidden + self.mlp_scale * self.drop_path(masked(self.mlp(self.norm(hidden)), after))

    def _projected(self, name: str, normed: Tensor, after: Tensor) -> Tensor:
        return getattr(self, name)(self.norms[name](masked(self.convolutions[name](normed), after)))

    def _skipped(self, own: Tensor, mask: Tensor, after: Tensor) -> Tensor:
        if self.stride == 2:
            if self.clean:
                own = own.masked_fill(~mask.unsqueeze(-1), float("-inf"))  # as the pooling itself takes the end of the frame
            own = halved_maximum(own)
        return masked(own, after)


class PairedBlock(nn.Module):
    """A block for either stream, each with the other's queries; both read the streams as they were before."""

    def __init__(self, width: int, heads: int, stride: int, drop_path: float, clean: bool) -> None:
        super().__init__()
        self.visual, self.audio = (PyramidBlock(width, heads, 4 * width, stride, drop_path, clean) for _ in range(2))

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, D), (B, T) bool -> (B, T', D) each."""
        return self.visual(visual, audio, mask), self.audio(audio, visual, mask)


class EventDependency(nn.Module):
    """Relate the classes of a level over time and to each other; every class has a feature in every step.

    E = ReLU(Conv(F)), (C, W) in each step; one block over the steps of every class plus one over the classes of every step, whose
    depth-wise convolution runs over the class index, so the order of the classes matters; Conv of the sum replaces F.

    The released code tiles the mask of the block over time in the wrong order: class c of clip b gets the mask of clip (b C + c) mod B, so
    every published prediction depends on the other clips of its batch, and it fails where B T_l = C. Here every class has its clip's mask.

    Args:
        width: of F.
        num_classes: C.
        class_width: W.
        drop_path, clean: as in :class:`PyramidBlock`.
    """

    def __init__(self, width: int, num_classes: int, class_width: int, drop_path: float, clean: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.spread, self.gather = TimeConvolution(width, num_classes * class_width), TimeConvolution(num_classes * class_width, width)
        self.over_time, self.over_classes = (
            PyramidBlock(class_width, 1, class_width, drop_path=drop_path, clean=clean) for _ in range(2)
        )  # fmt: skip

    def forward(self, fused: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T) bool -> (B, T, D)."""
        clips, steps = mask.shape
        spread = masked(self.spread(fused).relu(), mask).unflatten(-1, (self.num_classes, -1))  # (B, T, C, W)
        by_class = spread.transpose(1, 2).flatten(0, 1)  # (B C, T, W)
        over_time = self.over_time(by_class, by_class, mask.repeat_interleave(self.num_classes, dim=0))
        by_step = spread.flatten(0, 1)  # (B T, C, W)
        over_classes = self.over_classes(by_step, by_step, torch.ones_like(by_step[:, :, 0], dtype=torch.bool))
        both = over_time.unflatten(0, (clips, -1)).transpose(1, 2) + over_classes.unflatten(0, (clips, steps))
        return masked(self.gather(masked(both.flatten(-2), mask)), mask)
