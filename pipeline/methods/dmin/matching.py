"""DMIN for cross-modality localization (DCMR), after its released code; the paper is that of :mod:`pipeline.methods.dmin.method`.

Two networks, one a direction. Both modalities pass DMIN's relations within and across them, the map by its mean. A given segment's scalar
s_i is the mean of its channels; a searched segment's u_p = w f_p. The given event's l scalars are laid on every window of the other
modality, and the logit of segment p under scalar i is s_i u_p + b, trained against the event's segments by binary cross-entropy. A
window's score is the sum of its logits.

Deviations from the released code, by name:

* ``given: window`` (default): of the given modality nothing outside its window is known. ``whole``, as released: its whole track enters
  both networks, in training and test, so the answer may be found by synchrony outside the window, which the task does not offer.
  Read such a run beside runs of ``whole`` alone.
* ``overlap: separate`` (default): each window by itself, a logit for each pair of a window and a segment. ``repeated``, as released: the
  windows' products are written in place one after the other, so p's logit is u_p times the product of all scalars that any window lays on
  it, plus b; products of up to l scalars that are not bounded.
* A clip without an event has nothing to match and no weight (released: it fails). A clip's own length bounds its windows.

The scalars are channel means behind a layer norm, and so zero until its weights have moved: at the first step only the scalars' own norm
and b learn. This is as released.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pipeline.batch import Batch
from pipeline.layers.matching import windows
from pipeline.layers.pooling import masked_mean, mean_over_positions
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import BimodalRelation, check_heads
from pipeline.methods.base import METHODS, MethodConfig
from pipeline.methods.dmin.dense_relation import DenseRelation
from pipeline.methods.dmin.method import check_dense_heads
from pipeline.methods.shared.inputs import method_inputs
from pipeline.methods.shared.matching import MatchingMethod
from pipeline.methods.shared.two_heads import TwoHeadRecipe
from pipeline.tasks.cml import MatchingScores, MatchingTargets


class DminMatchingRecipe(TwoHeadRecipe):
    """Adam 5e-4, batches of 32, 200 epochs, gradient norm at most 0.1, as released."""

    milestones: tuple[int, ...] = ()


class DminMatchingConfig(MethodConfig):
    """Defaults: the released widths; what is known of the given modality and how windows overlap: ours."""

    given: Literal["window", "whole"] = Field("window", description="what is known of the given modality; whole: as released")
    overlap: Literal["separate", "repeated"] = Field("separate", description="of windows that are tried; repeated: as released")
    width: int = Field(256, ge=1, description="d, in the relations")
    heads: int = Field(4, ge=1, description="of the relations")
    feedforward: int = Field(2048, ge=1, description="hidden width in the relation blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the relation within each modality")
    cross_dropout: float = Field(0.02, ge=0, lt=1, description="in the relation across the modalities")
    recipe: DminMatchingRecipe = DminMatchingRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        check_dense_heads(self.width, self.heads)
        return self


class Direction(nn.Module):
    """The network of one direction: from the given modality's window to the other modality."""

    def __init__(self, given: Literal["audio", "visual"], visual_width: int, audio_width: int, config: DminMatchingConfig) -> None:
        super().__init__()
        self.relation = BimodalRelation(
            visual_width, audio_width, config.width, config.heads, config.feedforward, config.feedforward, config.dropout,
            config.cross_dropout, DenseRelation,
        )  # fmt: skip
        self.head = nn.Linear(config.width, 1)
        self.given, self.config = given, config

    def encoded(self, visual: Tensor, audio: Tensor, mask: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """Scalars s of the given modality and u of the searched one, (N, T) each.

        Args:
            visual, audio: (N, T, D).
            mask: (N, T), bool, at least one True per clip.
            window: (N, T), bool, the given segments; an empty window counts as the whole clip.
        """
        known = window & mask if self.config.given == "window" else mask
        known = known | (mask & ~known.any(dim=1, keepdim=True))
        masks = (mask, known) if self.given == "audio" else (known, mask)
        related = self.relation(visual, audio, *masks)
        given, searched = (related.audio, related.visual) if self.given == "audio" else (related.visual, related.audio)
        return at_least_float32(given).mean(dim=-1), at_least_float32(searched @ self.head.weight[0])

    def logits(self, scalars: Tensor, searched: Tensor, chosen: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each searched segment p under each scalar i, and which windows lay i on p.

        Args:
            scalars, searched: s and u, (N, T) each.
            chosen: (N, T), bool, the given window's segments, in their order; they need not adjoin.
            mask: (N, T), bool.

        Returns:
            logits (N, T of i, T of p), laid (N, T of i, T of p) bool.
        """
        place = torch.arange(mask.shape[1], device=mask.device)
        of_rank = ((chosen.cumsum(dim=1) - 1).unsqueeze(1) == place[:, None]) & chosen.unsqueeze(1)  # (N, T of i, T)
        ordered = (of_rank.to(scalars.dtype) * scalars.unsqueeze(1)).sum(dim=-1, keepdim=True)
        length, start = chosen.sum(dim=1)[:, None, None], place - place[:, None]  # start: of the window that lays i on p
        laid = (place[:, None] < length) & (start >= 0) & (start <= mask.sum(dim=1)[:, None, None] - length)
        if self.config.overlap == "repeated":
            ordered = torch.where(laid, ordered, 1.0).prod(dim=1, keepdim=True).expand(-1, mask.shape[1], -1)
        return ordered * searched.unsqueeze(1) + self.head.bias, laid

    def loss(self, visual: Tensor, audio: Tensor, mask: Tensor, event: Tensor, known: Tensor) -> Tensor:
        """Binary cross-entropy with the event's segments, a mean over clips with an event.

        Streams are (N, T, D), and mask, event and the segments that count (N, T) bool.
        """
        logits, laid = self.logits(*self.encoded(visual, audio, mask, event), event, mask)
        counted = laid & known.unsqueeze(1)
        if self.config.overlap == "repeated":
            logits, counted = logits[:, :1], (known & event.any(dim=1, keepdim=True)).unsqueeze(1)
        truth = event.to(logits.dtype).unsqueeze(1).expand_as(logits)
        return masked_mean(binary_cross_entropy_with_logits(logits, truth, reduction="none"), counted)

    def scores(self, visual: Tensor, audio: Tensor, mask: Tensor) -> Tensor:
        """Score of every window of the given modality with every window of the other: (B, L, T, T)."""
        clips, segments = mask.shape
        once = self.encoded(visual, audio, mask, mask) if self.config.given == "whole" else None
        of_lengths = []
        for window in windows(segments, mask.device):  # all windows of one length, (T start, T)
            chosen = window.repeat(clips, 1)
            repeated = [x.repeat_interleave(segments, dim=0) for x in (mask, visual, audio)]
            if once is None:
                scalars, searched = self.encoded(repeated[1], repeated[2], repeated[0], chosen)
            else:
                scalars, searched = (x.repeat_interleave(segments, dim=0) for x in once)
            logits, laid = self.logits(scalars, searched, chosen, repeated[0])
            logits = logits.masked_fill(~laid, 0.0)
            sums = [logits.diagonal(start, -2, -1).sum(dim=-1) for start in range(segments)]
            of_lengths.append(torch.stack(sums, dim=-1).unflatten(0, (clips, segments)))
        return torch.stack(of_lengths, dim=1)


@METHODS.register("dmin_matching")
class DminMatching(MatchingMethod):
    """Both directions' networks; every registered parameter is used.

    Parameters at 512 / 128: 16,438,786.
    """

    Config = DminMatchingConfig
    config: DminMatchingConfig

    def __init__(self, config: DminMatchingConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio = self.visual_shape[-1], self.audio_shape[0]
        self.audio_to_visual, self.visual_to_audio = Direction("audio", visual, audio, config), Direction("visual", visual, audio, config)

    def losses_of_matches(self, batch: Batch, targets: MatchingTargets) -> dict[str, Tensor]:
        """``a2v`` + ``v2a``; each a mean over the tried windows' segments in clips with an event."""
        inputs = method_inputs(self, batch)
        streams = (mean_over_positions(inputs.visual), inputs.audio, inputs.mask, targets.event & batch.mask, batch.mask)
        terms = {"a2v": self.audio_to_visual.loss(*streams), "v2a": self.visual_to_audio.loss(*streams)}
        return {**terms, "total": terms["a2v"] + terms["v2a"]}

    def predict(self, batch: Batch) -> MatchingScores:
        inputs = method_inputs(self, batch)
        streams = (mean_over_positions(inputs.visual), inputs.audio, inputs.mask)
        return MatchingScores(self.audio_to_visual.scores(*streams), self.visual_to_audio.scores(*streams))
