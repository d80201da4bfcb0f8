"""An LSTM over the segments of a clip that ignores padding in both directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.layers.precision import processor_has_lstm


class SegmentLSTM(nn.Module):
    """LSTM, uni- or bidirectional.

    Args:
        input_width: D of a segment.
        output_width: width of both directions together; an even number if bidirectional.
        layers: number of layers, each over the output of the one before.
    """

    def __init__(self, input_width: int, output_width: int, bidirectional: bool = True, layers: int = 1) -> None:
        super().__init__()
        hidden = output_width // 2 if bidirectional else output_width
        self.lstm = nn.LSTM(input_width, hidden, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, input_width), (B, T) bool -> (B, T, output_width).

        Padding only at the end, and at least one valid segment per clip. No mask: no segment is padding; a mask on a GPU is read back.

        Raises:
            RuntimeError: a mask while a CUDA graph is captured.
        """
        if mask is not None and mask.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("an LSTM must know the lengths of clips that may have padding")
        if mask is None or bool(mask.all()):
            return self._unpadded(features)
        # Packed, so that the backward direction starts at a clip's own last segment and not in its padding.
        packed = pack_padded_sequence(features, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=features.shape[1])[0]

    def _unpadded(self, features: Tensor) -> Tensor:
        """Run the LSTM, in float32 where the processor lacks autocast's dtype; the output has that dtype anyway."""
        if features.is_cpu and torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            if not processor_has_lstm(dtype):
                with torch.autocast("cpu", enabled=False):
                    return self.lstm(features.float())[0].to(dtype)
        return self.lstm(features)[0]
