"""The memory: per class, the raw features of the segments whose modalities agree best."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.layers.precision import at_least_float32


class EventMemory(nn.Module):
    """Slots (C, n) of raw audio and maps with their scores; zeros where empty. All are stored with the weights.

    Args:
        classes, slots: C and n.
        visual_shape: (S, D_v) of a segment's positions.
        audio_width: D_a.
    """

    audio: Tensor
    visual: Tensor
    scores: Tensor

    def __init__(self, classes: int, slots: int, visual_shape: tuple[int, int], audio_width: int) -> None:
        super().__init__()
        self.register_buffer("audio", torch.zeros(classes, slots, audio_width))
        self.register_buffer("visual", torch.zeros(classes, slots, *visual_shape))
        self.register_buffer("scores", torch.full((classes, slots), -1.0))  # below every score: empty slots are filled first

    @torch.no_grad()
    def offer(self, audio: Tensor, visual: Tensor, scores: Tensor, classes: Tensor, offered: Tensor) -> None:
        """Let each clip's segment replace the worst slot of its class if it scores more.

        Not if a slot of the class has the same audio sum. Runs without asking the tensors anything, so that a GPU can record it.

        Args:
            audio: (B, D_a). visual: (B, S, D_v). scores: (B,). classes: (B,). offered: (B,), bool, the clips that take part.
        """
        for clip in range(len(audio)):
            own = classes[clip : clip + 1]
            kept = self.scores.index_select(0, own)[0]
            slot = kept.argmin(dim=0, keepdim=True)
            sounds = self.audio.index_select(0, own)[0]
            # Added up together with the slots: in another order the last digits differ, and a segment would fill several slots.
            sums = torch.cat([sounds, audio[clip : clip + 1].to(sounds.dtype)]).sum(dim=-1)
            new = offered[clip] & (scores[clip] > kept.amin()) & ~(sums[:-1] == sums[-1]).any()
            for buffer, value in ((self.audio, audio[clip]), (self.visual, visual[clip]), (self.scores, scores[clip])):
                buffer[own, slot] = torch.where(new, value.to(buffer.dtype), buffer[own, slot][0]).unsqueeze(0)


def agreement(audio: Tensor, visual: Tensor) -> Tensor:
    """1 - JSD(softmax(a'), softmax(v')) of each segment, the divergence in nats: (B, T, D) twice -> (B, T)."""
    first, second = at_least_float32(audio).log_softmax(dim=-1), at_least_float32(visual).log_softmax(dim=-1)
    mean = torch.logaddexp(first, second) - math.log(2)
    divergences = [(x.exp() * (x - mean)).sum(dim=-1) for x in (first, second)]
    return 1 - (divergences[0] + divergences[1]) / 2
