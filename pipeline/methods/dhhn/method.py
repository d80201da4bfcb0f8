"""DHHN: "Dual Hierarchical Hybrid Network for Weakly-Supervised Audio-Visual Video Parsing", ACM MM 2022, by Jiang and others.

The main network (HCMN) convolves both streams over time on three scales, of one, three and five segments, passes each scale through one
HAN layer, lays the coarser scales over the segments of the finer ones, and pools every one of these sums (MMIL); its probabilities are the
means of the three. In training two guides, networks of one modality each, learn the same labels beside it: the main network's clip
probability of a modality follows its guide's, and those of the two modalities are driven apart, in the main network and between the guides.
Only the main network is kept.

Published on LLP, segment level A, V, AV, Type@AV, Event@AV; event level: 61.3, 58.3, 52.9, 57.5, 58.1; 54.0, 55.1, 47.3, 51.5, 51.5. With
refined labels (``refine: true``; five epochs, all learning rates equal): 61.4, 63.4, 56.8, 60.5, 59.5; 54.6, 60.8, 51.1, 55.5, 53.3. A
released log of validation jumps between 36 and 58 Type@AV from epoch to epoch, so one seed says little.

``variant: released`` has a fault of the released code that the default, ``fixed``, does not: a label removed from the audio also vanishes
from the target of the whole clip, which shares its memory (as MA's). It makes no difference without refined labels.

As released:

* The coarsest scale of ten segments has two cells, of segments 0-2 and 3-7, laid over segments 0-4 and 5-9; none reads segments 8 and 9.
* The two squares that drive the modalities apart are maximized without a bound but the sigmoids'.
* Of the three scales' probabilities of the clip, P may exceed 1, as MMIL's may.

Deliberate differences from the released code:

* It keeps two snapshots, of the epochs with the best audio and the best visual score, and takes each modality from its own (18.6 million
  parameters); here one is kept, by the task's headline.
* It trains three networks with an Adam each; no parameter is in two of them and guides teach without a gradient, so here one Adam takes the
  sum of the losses, with a factor on the learning rate of each guide.
* Batch norm leaves padded segments out, and a clip's cells lie over its own segments; with ten valid segments both are as released.
* Two layer norms that no pass reaches are left out (9,296,459 parameters there, 9,294,411 of them used).

Batch norm lets the other clips of a batch matter in training; a prediction depends on its clip alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.hybrid_attention import AttentivePooling, HybridAttention, ParsingFrontEnd, Pooled
from pipeline.layers.parsing_losses import binary_loss, smoothed
from pipeline.layers.pooling import masked_mean
from pipeline.layers.pyramid import masked
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.dhhn.guide import AudioGuide, Guide, VisualGuide
from pipeline.methods.dhhn.scales import ScaleBranch, on_segments
from pipeline.methods.shared.anchor import weighted_sum
from pipeline.methods.shared.parsing import ParsingInputs
from pipeline.methods.shared.removed_labels import Absent, RefinedByMaConfig, RefinedMethod
from pipeline.tasks.avvp import ParsingScores

SCALES = ((1, 1), (3, 2), (5, 5))  # segments that a cell reads, and from one cell to the next
GUIDES = ("audio_guide", "visual_guide")


class DhhnRecipe(Recipe):
    """Adam 3e-4, of the guides twice and a fifth of that, 10 epochs, batches of 64.

    As released without refined labels; the rate falls after the tenth epoch only.
    """

    learning_rate: float = Field(3e-4, gt=0)
    rate_factors: dict[str, float] = Field({"audio_guide": 2.0, "visual_guide": 0.2}, description="on the learning rate of the guides")
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(10, ge=1)


class DhhnConfig(RefinedByMaConfig):
    """Defaults: the paper's network, on all labels."""

    rated_parts = GUIDES

    variant: Literal["fixed", "released"] = Field("fixed", description="released: a label removed from the audio leaves the clip's target")
    width: int = Field(512, ge=1, description="of all features in the three networks")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    guide_heads: int = Field(8, ge=1, description="of the guides' attention")
    visual_share: float = Field(0.9, ge=0, le=1, description="weight of the label in the visual target; the rest is 1/2")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability in the same modality reaches this")
    recipe: DhhnRecipe = DhhnRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, guide_heads=self.guide_heads)
        return self


@METHODS.register("dhhn")
class Dhhn(RefinedMethod):
    """Hybrid attention on three time scales, guided by a network of each modality.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 9,294,411, and in training 1,669,682 (audio) and 5,018,162 (visual).
    """

    Config = DhhnConfig
    config: DhhnConfig

    def __init__(
        self, config: DhhnConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        width = config.width
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, width)
        self.audio_branches, self.visual_branches = (nn.ModuleList(ScaleBranch(width, *scale) for scale in SCALES) for _ in range(2))
        self.attention = HybridAttention(width, feedforward=config.feedforward, dropout=config.dropout)
        self.pooling = AttentivePooling(width, num_classes)
        layer = (width, config.guide_heads, config.feedforward, config.dropout)
        self.audio_guide: AudioGuide | None = AudioGuide(self.audio_shape[0], width, Guide(*layer, 1, 4, num_classes))
        self.visual_guide: VisualGuide | None = VisualGuide(
            self.visual_shape[-1], self.motion_width, width, Guide(*layer, 2, 3, num_classes)
        )

    def kept_weights(self) -> dict[str, Tensor]:
        """All weights except the guides'."""
        return {name: weight for name, weight in self.state_dict().items() if name.partition(".")[0] not in GUIDES}

    def load_kept(self, weights: Mapping[str, Tensor]) -> None:
        self.audio_guide = self.visual_guide = None
        self.load_state_dict(weights)

    def parsed(self, inputs: ParsingInputs, norm_mask: Tensor) -> Pooled:
        """The main network's probabilities: means over the scales.

        Args:
            norm_mask: segments that batch norm counts, (B, T), bool: none of a clip of padding only.
        """
        visual, audio, motion, mask = inputs
        tracks = [masked(stream, mask) for stream in self.front_end(visual, audio, motion)]
        sums = [torch.zeros_like(stream) for stream in tracks]
        said = []
        for (_, stride), *branches in zip(SCALES, self.audio_branches, self.visual_branches, strict=True):
            cells = [branch(stream, norm_mask) for branch, stream in zip(branches, tracks, strict=True)]
            attended = self.attention(*cells, mask[:, ::stride])
            sums = [before + on_segments(stream, mask, stride) for before, stream in zip(sums, attended, strict=True)]
            said.append(self.pooling(*sums, mask))
        return Pooled(*(torch.stack(scales).mean(dim=0) for scales in zip(*said, strict=True)))

    def refined_losses(self, batch: Batch, labels: Tensor, absent: Absent, progress: Progress) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``, ``audio_guided``, ``visual_guided``, ``apart``; the guides' three; their weighted sum."""
        assert self.audio_guide is not None, "loaded for prediction only; create the method again to train it"
        assert self.visual_guide is not None
        inputs, counted = self.inputs(batch), batch.mask.any(dim=1)
        said = self.parsed(inputs, batch.mask)
        sound, picture = self.audio_guide(inputs.audio, inputs.mask), self.visual_guide(inputs.visual, inputs.motion, inputs.mask)
        told = self.told(batch, labels)
        of_sound = told[0].masked_fill(absent.audio, 0.0)
        of_picture = smoothed(told[1], self.config.visual_share).masked_fill(absent.visual, 0.0)
        of_clip = labels.masked_fill(absent.audio, 0.0) if self.config.variant == "released" else labels

        def square(one: Tensor, other: Tensor) -> Tensor:
            return masked_mean((one - other).square(), counted.unsqueeze(1).expand_as(one))

        terms = self.kept_terms({
            "audio": binary_loss(said.clip_audio, of_sound, counted),
            "visual": binary_loss(said.clip_visual, of_picture, counted),
            "clip": binary_loss(said.clip, of_clip, counted),
        })  # fmt: skip
        terms |= {
            "audio_guided": square(said.clip_audio, sound.detach()),
            "visual_guided": square(said.clip_visual, picture.detach()),
            "apart": square(said.clip_audio, said.clip_visual),
            "audio_guide": binary_loss(sound, of_sound if self.config.refine else told[0], counted),
            "visual_guide": binary_loss(picture, of_picture if self.config.refine else told[1], counted),
            "guides_apart": square(sound, picture),
            **self.segment_losses(batch, said.audio, said.visual),
        }
        return {**terms, "total": weighted_sum(terms, {"apart": -1.0, "guides_apart": -1.0, **self.segment_weights})}

    def predict(self, batch: Batch) -> ParsingScores:
        said = self.parsed(self.inputs(batch), batch.mask)
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(said.audio, said.visual, said.clip_audio, said.clip_visual, self.gates(said.clip, thresholds, thresholds))
