"""DAM's event vector of one modality, and the local features that it is matched with."""

from __future__ import annotations

from torch import Tensor, nn


class EventVector(nn.Module):
    """The event vector psi: mean over a window's segments of LN(f + MHA(f)), with self-attention within the window."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, window: Tensor) -> Tensor:
        """Vector of each window: (N, T, D), (N, T) bool -> (N, D); zero for an empty window."""
        empty = ~window.any(dim=1, keepdim=True)
        attended = self.attention(features, features, features, key_padding_mask=~(window | empty), need_weights=False)[0]
        gathered = self.norm(features + attended).masked_fill(~window.unsqueeze(-1), 0.0).sum(dim=1)
        return gathered / window.sum(dim=1, keepdim=True).clamp(min=1)


class Modality(nn.Module):
    """Local features of one modality and the event vector of its windows."""

    def __init__(self, input_width: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Linear(input_width, width), nn.ReLU(), nn.Linear(width, width))
        self.event = EventVector(width, heads, dropout)
