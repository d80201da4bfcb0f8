"""AVE-CLIP-style multi-window transformer: attention over time and over features, within windows of several lengths."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pipeline.layers.precision import at_least_float32


class MultiDomainAttention(nn.Module):
    """Attention of x to y within windows of w segments, over time and over features.

    All windows share the weights.

    * Over time: softmax(x W_q (y W_k)^T / sqrt(D)) y W_v, a softmax over the window's segments.
    * Over features: y W_v' softmax((y W_k')^T x W_q' / sqrt(w)), a D x D map whose softmax runs over the channels of y.

    Both are added to x; a layer norm, a feed-forward block of 4 D with GELU, and a second layer norm follow.
    """

    def __init__(self, width: int, window: int, dropout: float) -> None:
        super().__init__()
        self.time = nn.ModuleDict({name: nn.Linear(width, width, bias=name != "key") for name in ("query", "key", "value")})
        self.features = nn.ModuleDict({name: nn.Linear(width, width, bias=name != "key") for name in ("query", "key", "value")})
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width))
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.window = window

    def forward(self, features: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """X and y (B, T, D), (B, T) bool -> (B, T, D); padding fills the last window."""
        clips, segments, _ = features.shape
        missing = -segments % self.window
        x, y = (pad(part, (0, 0, 0, missing)).unflatten(1, (-1, self.window)).flatten(0, 1) for part in (features, memory))
        valid = pad(mask, (0, missing)).unflatten(1, (-1, self.window)).flatten(0, 1)  # (windows, w)
        attended = self._over_time(x, y, valid) + self._over_features(x, y, valid)
        attended = attended.unflatten(0, (clips, -1)).flatten(1, 2)[:, :segments]
        features = self.attention_norm(features + self.dropout(attended))
        return self.feedforward_norm(features + self.dropout(self.feedforward(features)))

    def _over_time(self, x: Tensor, y: Tensor, valid: Tensor) -> Tensor:
        scores = at_least_float32(self.time["query"](x) @ self.time["key"](y).transpose(1, 2)) / x.shape[-1] ** 0.5
        allowed = (valid | ~valid.any(dim=1, keepdim=True)).unsqueeze(1)  # a window of padding alone attends to all of it
        shares = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
        return shares.to(x.dtype) @ self.time["value"](y)

    def _over_features(self, x: Tensor, y: Tensor, valid: Tensor) -> Tensor:
        keys = self.features["key"](y).masked_fill(~valid.unsqueeze(-1), 0.0)
        scores = at_least_float32(keys.transpose(1, 2) @ self.features["query"](x)) / self.window**0.5  # (windows, D of y, D of x)
        return self.features["value"](y) @ scores.softmax(dim=1).to(x.dtype)


class MultiWindowTransformer(nn.Module):
    """By window length, each modality attends to itself, then to the other; one linear map joins all."""

    def __init__(self, width: int, windows: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MultiDomainAttention(width, window, dropout) for window in windows)
        self.join = nn.Linear(2 * len(windows) * width, width)

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), (B, T, D), (B, T) bool -> (B, T, D)."""
        found = []
        for block in self.blocks:
            own_visual, own_audio = block(visual, visual, mask), block(audio, audio, mask)
            found += [block(own_visual, own_audio, mask), block(own_audio, own_visual, mask)]
        return self.join(torch.cat(found, dim=-1))
