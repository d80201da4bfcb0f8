"""Single-head dot-product attention without the 1/sqrt(d), as CMBS and CACE-Net use it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class UnscaledAttention(nn.Module):
    """softmax(q K^T) V with q = W_Q x, K = W_K m, V = W_V m (CACE-Net, Eqs. 3-5); no output projection.

    Args:
        query_width, memory_width: D of what asks and of what is asked.
        attention_width: of q and K.
        value_width: of V and of the output.
    """

    def __init__(self, query_width: int, memory_width: int, attention_width: int, value_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_width, attention_width)
        self.key = nn.Linear(memory_width, attention_width)
        self.value = nn.Linear(memory_width, value_width)

    def forward(self, features: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, L, query_width), (N, M, memory_width), (N, M) bool (False: not attended to) -> (N, L, value_width)."""
        allowed = None if mask is None else mask.unsqueeze(1)
        return scaled_dot_product_attention(self.query(features), self.key(memory), self.value(memory), attn_mask=allowed, scale=1.0)
