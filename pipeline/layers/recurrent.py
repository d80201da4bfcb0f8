"""Recurrent networks over the segments of a clip that ignore padding in both directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from pipeline.layers.precision import processor_has_lstm

State = tuple[Tensor, Tensor]  # hidden and cell states, (directions, B, width of one direction) each


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
        """(B, T, input_width), (B, T) bool -> (B, T, output_width); as :meth:`run`."""
        return self.run(features, mask)[0]

    def run(self, features: Tensor, mask: Tensor | None, start: State | None = None) -> tuple[Tensor, State]:
        """Outputs and final states.

        Padding only at the end, and at least one valid segment per clip. No mask: no segment is padding; a mask on a GPU is read back.

        Args:
            features: (B, T, input_width).
            mask: (B, T), bool.
            start: initial states; zeros if None.

        Returns:
            (B, T, output_width), (states after each clip's last segment, of the backward direction after its first).

        Raises:
            RuntimeError: a mask while a CUDA graph is captured.
        """
        packed = packed_segments(features, mask)
        if packed is None:
            return self._unpadded(features, start)
        outputs, last = self.lstm(packed, start)
        return pad_packed_sequence(outputs, batch_first=True, total_length=features.shape[1])[0], last

    def _unpadded(self, features: Tensor, start: State | None) -> tuple[Tensor, State]:
        """Run the LSTM, in float32 where the processor lacks autocast's dtype; the output has that dtype anyway."""
        if features.is_cpu and torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            if not processor_has_lstm(dtype):
                with torch.autocast("cpu", enabled=False):
                    start = None if start is None else (start[0].float(), start[1].float())
                    outputs, last = self.lstm(features.float(), start)
                    return outputs.to(dtype), last
        return self.lstm(features, start)


class SegmentGRU(nn.Module):
    """Bidirectional GRU of one layer that starts from given states.

    Args:
        input_width: D of a segment.
        output_width: even; width of both directions together.
    """

    def __init__(self, input_width: int, output_width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_width, output_width // 2, batch_first=True, bidirectional=True)

    def forward(self, features: Tensor, start: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, input_width), states (B, 2, output_width / 2), (B, T) bool -> (B, T, output_width).

        The mask, and what a GPU's graph allows, are as for :class:`SegmentLSTM`. Runs in the weights' dtype.
        """
        with torch.autocast(features.device.type, enabled=False):
            dtype = next(self.gru.parameters()).dtype
            features, states = features.to(dtype), start.to(dtype).transpose(0, 1).contiguous()
            packed = packed_segments(features, mask)
            if packed is None:
                return self.gru(features, states)[0]
            return pad_packed_sequence(self.gru(packed, states)[0], batch_first=True, total_length=features.shape[1])[0]


def packed_segments(features: Tensor, mask: Tensor | None) -> PackedSequence | None:
    """Pack the valid segments, so that the backward direction starts at a clip's own last one; None without padding.

    Raises:
        RuntimeError: a mask while a CUDA graph is captured.
    """
    if mask is not None and mask.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError("an LSTM must know the lengths of clips that may have padding")
    if mask is None or bool(mask.all()):
        return None
    return pack_padded_sequence(features, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
