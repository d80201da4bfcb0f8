"""MGN: Mo, Tian, "Multi-modal Grouping Network for Weakly-Supervised Audio-Visual Video Parsing", NeurIPS 2022.

Every modality has a token per class. Transformer blocks run over the segments and the tokens; then the tokens group the segments, to one
vector per class, which gives the clip's probability in that modality. Further blocks and a grouping across the modalities give the
clip's probability in either. A segment's probability is the clip's, times a weight from the segment's assignment to the class. Before that,
audio segments are grouped by the visual segments, one group a second. Published on LLP, segment level A, V, AV, Type@AV,
Event@AV: 60.8, 55.4, 50.0, 55.5, 57.2; event level: 51.1, 52.4, 44.4, 49.3, 49.1.

**As released the network cannot localise** (``variant: released``, the default, since the published numbers come from it). The weight is
1 + softmax over the segments of a number in (0, 1), so over ten segments it lies between 1.039 and 1.232: a class whose clip probability is
.481 or more is on in all ten, one below .406 in none; segments differ only in between, and the scores are those of a classifier of clips.
``variant: attention`` is our own: the clip's probability times the assignment relative to that of the class's best segment.

As released, and perhaps not meant:

* The audio's weights speak of groups, one for each *visual* second, not of audio seconds.
* Audio segments go to one group each (the flag of the released code means the opposite of its name).
* A segment's probability may exceed 1; here answers are cut there, which changes no decision.

The grouping by visual segments mixes them by their places, which ties the number of segments (``segments``). Padded segments are zero
there, take part in no attention, and are assigned to no class. Nothing is left out: all 4,366,065 parameters are used. Among epochs with
equal validation scores the first is kept (released: the last).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.batch import Batch
from pipeline.errors import PipelineError
from pipeline.layers.hybrid_attention import ParsingFrontEnd
from pipeline.layers.parsing_losses import binary_loss, smoothed
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.mgn.grouping import Grouped, Grouping, TokenBlock
from pipeline.methods.shared.anchor import weighted_sum
from pipeline.methods.shared.parsing import ParsingConfig, ParsingInputs, ParsingMethod
from pipeline.tasks.avvp import ParsingScores


class MgnRecipe(Recipe):
    """Adam 3e-4, divided by 10 every ten epochs, 40 epochs, batches of 16, as released."""

    learning_rate: float = Field(3e-4, gt=0)
    milestones: tuple[int, ...] = (10, 20, 30)
    decay: float = Field(0.1, gt=0, le=1)
    batch_size: int = Field(16, ge=1)
    epochs: int = Field(40, ge=1)


class MgnConfig(ParsingConfig):
    """Defaults: the released network."""

    variant: Literal["released", "attention"] = Field(
        "released",
        description="a segment's probability is the clip's times 1 + softmax | over the maximum (ours) of the assignment",
    )
    segments: int = Field(10, ge=1, description="T, the number of segments of every clip; the same as dataset.segments")
    width: int = Field(128, ge=1, description="of all features and tokens")
    heads: int = Field(8, ge=1, description="of every attention but the assignment's")
    blocks: int = Field(3, ge=1, description="transformer blocks in each modality")
    cross_blocks: int = Field(6, ge=1, description="transformer blocks over the classes of both modalities")
    mixer_width: int = Field(64, ge=1, description="hidden width of the MLP over the tokens of a grouping")
    drop_path: float = Field(0.1, ge=0, lt=1, description="share of the clips that leave a branch of a block out in training")
    visual_share: float = Field(0.9, ge=0, le=1, description="weight of the label in the visual target; the rest is 1/2")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, in either modality, reaches this")
    recipe: MgnRecipe = MgnRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self

    @property
    def tied_segments(self) -> int:
        return self.segments


class Parsed(NamedTuple):
    """Probabilities of segments, (B, T, C), and of clips, (B, C); those of segments may exceed 1."""

    audio: Tensor
    visual: Tensor
    clip_audio: Tensor
    clip_visual: Tensor
    clip: Tensor


@METHODS.register("mgn")
class Mgn(ParsingMethod):
    """Segments grouped by class tokens, in each modality and across both.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25, T = 10: 4,366,065.
    """

    Config = MgnConfig
    config: MgnConfig

    def __init__(
        self, config: MgnConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        width = config.width
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, width)
        self.audio_tokens, self.visual_tokens = (nn.Parameter(torch.zeros(num_classes, width)) for _ in range(2))
        self.audio_blocks, self.visual_blocks, self.cross_blocks = (
            nn.ModuleList(TokenBlock(width, config.heads, config.drop_path) for _ in range(number))
            for number in (config.blocks, config.blocks, config.cross_blocks)
        )
        self.by_seconds = Grouping(width, config.heads, config.segments, config.mixer_width, hard=True)
        self.audio_grouping, self.visual_grouping, self.cross_grouping = (
            Grouping(width, config.heads, num_classes, config.mixer_width) for _ in range(3)
        )
        self.audio_score, self.visual_score, self.score = (nn.Linear(width, 1) for _ in range(3))
        self.token_classifier = nn.Linear(width, num_classes)
        self.apply(_as_released)

    def parsed(self, inputs: ParsingInputs) -> Parsed:
        """All probabilities.

        Raises:
            PipelineError: the clips have another number of segments than the network is tied to.
        """
        visual, audio, motion, mask = inputs
        if mask.shape[1] != self.config.segments:
            raise PipelineError(
                f"MGN mixes a clip's segments by their places and was built for {self.config.segments} of them, not {mask.shape[1]}; set"
                " its `segments` to dataset.segments and train again"
            )
        sound, picture = self.front_end(visual, audio, motion)
        picture_segments, picture_tokens = self._with_tokens(self.visual_blocks, picture, self.visual_tokens, mask)
        seen = self.visual_grouping(picture_segments, picture_tokens, mask)
        sound_segments, sound_tokens = self._with_tokens(self.audio_blocks, sound, self.audio_tokens, mask)
        by_seconds = self.by_seconds(sound_segments, picture, mask, mask).groups
        heard = self.audio_grouping(by_seconds, sound_tokens, mask)
        classes = torch.cat([heard.groups, seen.groups], dim=1)
        every = torch.ones(classes.shape[:2], dtype=torch.bool, device=classes.device)
        for block in self.cross_blocks:
            classes = block(classes, every)
        either = self.cross_grouping(*classes.chunk(2, dim=1), every[:, : self.num_classes]).groups
        clip_audio, clip_visual, clip = (
            at_least_float32(layer(groups)).squeeze(2).sigmoid()
            for layer, groups in ((self.audio_score, heard.groups), (self.visual_score, seen.groups), (self.score, either))
        )
        audio, visual = self._segments(clip_audio, heard, mask), self._segments(clip_visual, seen, mask)
        return Parsed(audio, visual, clip_audio, clip_visual, clip)

    @staticmethod
    def _with_tokens(blocks: nn.ModuleList, stream: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Segments and class tokens after the blocks.

        (B, T, D), (C, D), (B, T) bool -> (B, T, D), (B, C, D).
        """
        joint = torch.cat([stream, tokens.to(stream.dtype).expand(len(stream), -1, -1)], dim=1)
        valid = torch.cat([mask, torch.ones_like(joint[:, stream.shape[1] :, 0], dtype=torch.bool)], dim=1)
        for block in blocks:
            joint = block(joint, valid)
        return joint[:, : stream.shape[1]], joint[:, stream.shape[1] :]

    def _segments(self, clip: Tensor, grouped: Grouped, mask: Tensor) -> Tensor:
        """Probabilities of segments: (B, C), the assignment (B, C, T), (B, T) bool -> (B, T, C)."""
        assignment = grouped.assignment
        if self.config.variant == "attention":
            weights = assignment / assignment.amax(dim=2, keepdim=True)
        else:
            weights = 1 + assignment.masked_fill(~mask.unsqueeze(1), float("-inf")).softmax(dim=2)
        return (clip.unsqueeze(2) * weights).transpose(1, 2)

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``; ``audio_tokens``, ``visual_tokens``, whose class a token is; their sum."""
        said, (of_sound, of_picture) = self.parsed(self.inputs(batch)), self.told(batch, labels)
        terms = self.kept_terms({
            "audio": binary_loss(said.clip_audio, of_sound, counted),
            "visual": binary_loss(said.clip_visual, smoothed(of_picture, self.config.visual_share), counted),
            "clip": binary_loss(said.clip, labels, counted),
        })  # fmt: skip
        own = torch.arange(self.num_classes, device=labels.device)
        for name, tokens in (("audio_tokens", self.audio_tokens), ("visual_tokens", self.visual_tokens)):
            terms[name] = cross_entropy(at_least_float32(self.token_classifier(tokens)), own)
        terms |= self.segment_losses(batch, said.audio, said.visual)
        return {**terms, "total": weighted_sum(terms, self.segment_weights)}

    def predict(self, batch: Batch) -> ParsingScores:
        said = self.parsed(self.inputs(batch))
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(
            said.audio.clamp(max=1), said.visual.clamp(max=1), said.clip, said.clip, self.gates(said.clip, thresholds, thresholds)
        )


def _as_released(module: nn.Module) -> None:
    """Draw the weights of a linear layer or of an attention's projections, .02 wide, and set their biases to 0."""
    if isinstance(module, nn.MultiheadAttention):
        nn.init.trunc_normal_(module.in_proj_weight, std=0.02)
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
