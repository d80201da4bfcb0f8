"""The training clips of an epoch, batch by batch.

Shape letters: B clips, T segments, F frames of all B clips, N clips of the split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.contrastive.data import Draw, Item, draw_middle, draw_random, pooled_audio
from pipeline.contrastive.maps import DrawSource, SoundSource
from pipeline.contrastive.settings import FinetuneSettings


@dataclass
class Clips:
    """The clips of a split, and their frozen audio features, (T, D_a) by clip id."""

    items: list[Item]
    audio: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.items)


@dataclass
class ClipBatch:
    """The frames and audio features of B clips.

    frames: (F, 3, h, w), prepared by the encoder, or their frozen maps (F, c, y, x).
    owner: (F,) int64, ascending, the clip (0 to B - 1) of each frame.
    audio: (B, D_a), mean of the frozen features over the same segments; with ``audio_owner`` (R, *input), the sound of those segments,
        prepared by the encoder.
    groups: (B,) int64, equal for clips of the same video.
    audio_owner: (R,) int64, ascending, the clip of each row of sound.
    """

    frames: Tensor
    owner: Tensor
    audio: Tensor
    groups: Tensor
    audio_owner: Tensor | None = None

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the model is given."""
        given = self.frames, self.owner, self.audio
        return given if self.audio_owner is None else (*given, self.audio_owner)

    def to(self, device: torch.device) -> ClipBatch:
        owner = None if self.audio_owner is None else self.audio_owner.to(device)
        return ClipBatch(self.frames.to(device), self.owner.to(device), self.audio.to(device), self.groups.to(device), owner)

    def part(self, start: int, stop: int) -> ClipBatch:
        """Slice out clips ``start`` to ``stop`` - 1."""
        inside = (self.owner >= start) & (self.owner < stop)
        frames, owner, groups = self.frames[inside], self.owner[inside] - start, self.groups[start:stop]
        if self.audio_owner is None:
            return ClipBatch(frames, owner, self.audio[start:stop], groups)
        heard = (self.audio_owner >= start) & (self.audio_owner < stop)
        return ClipBatch(frames, owner, self.audio[heard], groups, self.audio_owner[heard] - start)


def lasting_draw(item: Item, settings: FinetuneSettings) -> Draw:
    """The draw of a training clip that serves several epochs: its only one, or the middle frames for the heads."""
    if settings.draw == "once":
        return draw_random(item, settings.seed, 0, settings.segments, settings.frames_per_segment, once=True)
    return draw_middle(item)


class Batches:
    """Batches of an epoch. Seed and epoch alone decide order and frames, in every process and after a resume.

    Args:
        sounds: source of the clips' prepared sound, for an audio encoder that is trained; None: the frozen features.
    """

    def __init__(self, clips: Clips, settings: FinetuneSettings, sounds: SoundSource | None = None) -> None:
        self.clips, self.settings, self.sounds = clips, settings, sounds
        files = {item.job.sha256: number for number, item in enumerate(clips.items)}
        self.groups = torch.tensor([files[item.job.sha256] for item in clips.items], dtype=torch.int64)  # (N,), equal for clips of one file

    def order(self, epoch: int) -> Tensor:
        """Shuffle the clips for an epoch: (N,) positions. Epochs of the heads alone are counted down from -1."""
        seed = np.random.SeedSequence([self.settings.seed, epoch + 2**31]).generate_state(1)[0]
        return torch.randperm(len(self.clips), generator=torch.Generator().manual_seed(int(seed)))

    def draw(self, item: Item, epoch: int) -> Draw:
        settings, once = self.settings, self.settings.draw == "once"
        return draw_random(item, settings.seed, 0 if once else epoch, settings.segments, settings.frames_per_segment, once)

    def of_epoch(self, source: DrawSource, epoch: int, position: int, rank: int, processes: int) -> Iterator[tuple[Tensor, ClipBatch]]:
        """Yield (positions in the batch of all processes, this process's equal share of its clips), read ahead of the step.

        If the last batch cannot be shared equally, its surplus clips are left out.

        Args:
            position: number of clips of the epoch's order that are done.
        """
        batches = self.order(epoch)[position:].split(self.settings.batch_size)
        shares = [rows[: len(rows) // processes * processes][rank::processes] for rows in batches]
        draws = [self.draw(self.clips.items[int(row)], epoch) for share in shares for row in share]
        loaded = source.of(draws)
        heard = self.sounds.of(draws) if self.sounds is not None else None
        for rows, share in zip(batches, shares, strict=True):
            if len(share):
                chosen = [next(loaded) for _ in share]
                frames = [each for _, each in chosen]
                if heard is None:
                    audio, audio_owner = pooled_audio(self.clips.audio, [draw for draw, _ in chosen]), None
                else:
                    sounds = [next(heard)[1] for _ in share]
                    audio, audio_owner = torch.cat(sounds), owners(sounds)
                yield rows, ClipBatch(torch.cat(frames), owners(frames), audio, self.groups[share], audio_owner)


def owners(parts: list[Tensor]) -> Tensor:
    """The number of the part that each row of all parts is from, (R,) int64."""
    return torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)])
