"""CMPAE: Gao, Chen, Xu, "Collecting Cross-Modal Presence-Absence Evidence for Weakly-Supervised Audio-Visual Event Perception", CVPR 2023.

HAN's attention over a front end with ELUs. For every class there is evidence for presence, from the modality's own stream, and for absence,
from both streams. A head for the whole clip reads the streams before the attention; in every other batch (by the batch's parity within the
epoch) it learns from the modalities, in the remaining batches they learn from it. JoMoLD's label denoising. Published on LLP with fixed
thresholds, segment level: A 63.9, V 63.3, AV 57.5, Type@AV 61.2, Event@AV 62.1; event level: 57.1, 60.6, 49.6, 55.8, 55.6.

Two fusions, both as released. In training and inference the streams are 0.8 of the streams with attention across the modalities plus 0.2
of the streams without. In inference the probabilities are 0.7 of those from the fused streams plus 0.3 of those from the streams without.

The ELU comes between the frames' linear layer and their mean, so the frames cannot be averaged first: every step processes eight times as
many vectors as HAN. In the mutual loss the clip's uncertainty is at least 0.9, so batches in which the modalities learn have at most a
tenth of its weight; kept as released.

Deliberate differences from the released code:

* Layers that no forward pass reaches (a second head for the clip and two layer norms, 277,529 of 5,660,822 parameters) are left out.
* The first network, JoMoLD's estimator of label noise, is trained with this recipe (released: a file of its ratios).
* Among epochs with equal validation scores the first is kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.hybrid_attention import HybridAttention, ParsingFrontEnd
from pipeline.layers.parsing_losses import binary_loss, stream_contrast
from pipeline.methods.base import METHODS, MethodConfig, Progress, Recipe
from pipeline.methods.cmpae.evidence import Belief, EvidencePooling, GlobalEvidence, mutual_loss
from pipeline.methods.jomold import JomoldConfig, JomoldRecipe
from pipeline.methods.shared.anchor import Anchored, AnchorTargets
from pipeline.methods.shared.denoising import DenoisingConfig, DenoisingMethod
from pipeline.methods.shared.parsing import ParsingInputs
from pipeline.methods.shared.tuning import Fusion
from pipeline.tasks.avvp import ParsingScores

SHARES = tuple(round(0.1 * step, 1) for step in range(11))  # of the fused streams, to choose from on validation
Streams = tuple[Tensor, Tensor]  # audio, visual: (B, T, D) each


class CmpaeRecipe(Recipe):
    """Adam 5e-4, divided by 4 every six epochs, 20 epochs, batches of 128.

    Validation picks the epoch with the best mean of ten metrics.
    """

    learning_rate: float = Field(5e-4, gt=0)
    milestones: tuple[int, ...] = (6, 12, 18)
    decay: float = Field(0.25, gt=0, le=1)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(20, ge=1)
    selection: str | None = "mean_of_ten"


class CmpaeConfig(DenoisingConfig):
    """Defaults: the paper's network."""

    width: int = Field(512, ge=1, description="of both modalities' features in the attention")
    feedforward: int = Field(512, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    visual_dropout: float = Field(0.5, ge=0, lt=1, description="of the visual stream before pooling")
    absence_dropout: float = Field(0.2, ge=0, lt=1, description="in the layers that read absence from both modalities")
    audio_weight: float = Field(2.0, ge=0, description="of the audio loss")
    visual_weight: float = Field(0.6, ge=0, description="of the visual loss")
    clip_weight: float = Field(0.6, ge=0, description="of the whole clip's loss; the other two losses have weight 1")
    cross_share: float = Field(0.8, ge=0, le=1, description="share of the streams with attention across modalities; the rest is without")
    cross_share_in_inference: float = Field(0.7, ge=0, le=1, description="share of the fused streams' probabilities in inference")
    segment_threshold: float = Field(0.25, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.45, ge=0, le=1, description="and only if its clip probability in the same modality reaches this")
    recipe: CmpaeRecipe = CmpaeRecipe()

    @property
    def first(self) -> MethodConfig | None:
        if not self.denoise or self.noise_ratios is not None:
            return None
        network = self.model_dump(include={"motion", "width", "feedforward", "dropout", "visual_dropout", "visual_share", "pseudo_labels"})
        recipe = JomoldRecipe(**self.recipe.model_dump())
        return JomoldConfig(**network, recipe=recipe, denoise=False, cross_attention=False, audio_weight=1.0)

    @property
    def first_method(self) -> str:
        return "jomold"


class Parsed(NamedTuple):
    """Results of one forward pass.

    before, after: the streams before and after the attention.
    audio, visual: the belief of each modality.
    clip, clip_uncertainty: probability (B, C) and uncertainty (B, 1) of the whole clip.
    """

    before: Streams
    after: Streams
    audio: Belief
    visual: Belief
    clip: Tensor
    clip_uncertainty: Tensor


@dataclass
class ParsedAnchor(Anchored):
    """An Anchor's outputs plus the forward pass, which the losses need."""

    parsed: Parsed


@METHODS.register("cmpae")
class Cmpae(DenoisingMethod):
    """Presence and absence evidence across modalities.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 5,383,293.
    """

    Config = CmpaeConfig
    config: CmpaeConfig
    every_frame = True
    tuned_share: Tensor

    def __init__(
        self, config: CmpaeConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width, elu=True)
        self.attention = HybridAttention(config.width, feedforward=config.feedforward, dropout=config.dropout)
        self.dropout = nn.Dropout(config.visual_dropout)
        self.token_width = config.width
        self.pooling = EvidencePooling(config.width, num_classes, config.absence_dropout)
        self.whole_clip = GlobalEvidence(config.width, num_classes)
        if config.thresholds == "tuned":
            self.register_buffer("tuned_share", torch.tensor(float("nan")))

    def phase(self, progress: Progress) -> Hashable:
        return self.removes(progress), _into_clip(progress)

    def parse(self, inputs: ParsingInputs, cross: bool = True) -> Parsed:
        """Run a forward pass on the fused streams, or without attention across the modalities."""
        before = self.front_end(inputs.visual, inputs.audio, inputs.motion)
        return self._read(before, self._attended(before, inputs.mask, cross), inputs.mask)

    def _attended(self, before: Streams, mask: Tensor, cross: bool) -> Streams:
        alone = self.attention(*before, mask, cross=False)
        if not cross:
            return alone
        audio, visual = self.attention(*before, mask)
        return self._fused(audio, alone[0]), self._fused(visual, alone[1])

    def _fused(self, across: Tensor, alone: Tensor) -> Tensor:
        return self.config.cross_share * across + (1 - self.config.cross_share) * alone

    def _read(self, before: Streams, after: Streams, mask: Tensor) -> Parsed:
        audio, visual = self.pooling(after[0], self.dropout(after[1]), mask)
        return Parsed(before, after, audio, visual, *self.whole_clip(*before, mask))

    @property
    def loss_weights(self) -> Mapping[str, float]:
        return {"audio": self.config.audio_weight, "visual": self.config.visual_weight, "clip": self.config.clip_weight}

    def anchor_forward(self, inputs: ParsingInputs, cross: bool = True) -> ParsedAnchor:
        parsed = self.parse(inputs, cross)
        said = (parsed.audio.segments, parsed.visual.segments, parsed.audio.clip, parsed.visual.clip, parsed.clip)
        return ParsedAnchor(*parsed.after, *said, parsed)

    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """``audio``, ``visual``, ``clip``, ``contrast``, ``mutual``."""
        assert isinstance(anchored, ParsedAnchor)
        return self.terms(anchored.parsed, (targets.audio, targets.visual), targets.labels, mask, progress)

    def terms(
        self, parsed: Parsed, targets: tuple[Tensor, Tensor], labels: Tensor, mask: Tensor, progress: Progress
    ) -> dict[str, Tensor]:  # fmt: skip
        """The five losses, without their weights.

        Args:
            parsed: the forward pass.
            targets: audio and visual, (B, C) each.
            labels: of the clips, (B, C) in {0, 1}.
            mask: (B, T), bool, the batch's own mask: clips of padding only carry no weight.
            progress: position in training.
        """
        audio, visual, counted = parsed.audio, parsed.visual, mask.any(dim=1)
        whole = (parsed.clip, parsed.clip_uncertainty)
        return {
            "audio": binary_loss(audio.clip, targets[0], counted),
            "visual": binary_loss(visual.clip, targets[1], counted),
            "clip": binary_loss(parsed.clip, labels, counted),
            "contrast": stream_contrast(*parsed.after, mask),
            "mutual": mutual_loss(audio[1:], visual[1:], whole, labels, counted, into_clip=_into_clip(progress)),
        }

    def predict(self, batch: Batch) -> ParsingScores:
        inputs, share = self.inputs(batch), self._share()
        before = self.front_end(inputs.visual, inputs.audio, inputs.motion)
        across, alone = (self._read(before, self._attended(before, inputs.mask, cross), inputs.mask) for cross in (True, False))
        audio, visual = (
            [share * p + (1 - share) * q for p, q in zip(one[:2], other[:2], strict=True)]
            for one, other in ((across.audio, alone.audio), (across.visual, alone.visual))
        )
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        scores = ParsingScores(audio[0], visual[0], audio[1], visual[1], self.gates(audio[1], thresholds, thresholds))
        if self.config.thresholds == "tuned" and self.tuned_share.isnan():
            passes = {"across": across, "alone": alone}
            scores.unfused = {f"{name}_{key}": part for name, parsed in passes.items() for key, part in _probabilities(parsed).items()}
        return scores

    def _share(self) -> float:
        """Share of the fused streams' probabilities: the one tuned, else that of the settings."""
        if self.config.thresholds != "tuned" or self.tuned_share.isnan():
            return self.config.cross_share_in_inference
        return float(self.tuned_share)

    def fusions(self, scores: ParsingScores) -> Iterator[Fusion]:
        for share in SHARES:
            fused = {
                key: share * scores.unfused[f"across_{key}"] + (1 - share) * scores.unfused[f"alone_{key}"]
                for key in ("audio", "visual", "clip_audio", "clip_visual")
            }
            yield {"tuned_share": torch.tensor(share)}, replace(scores, **fused)  # type: ignore[arg-type]


def _probabilities(parsed: Parsed) -> dict[str, Tensor]:
    """Those of one pass, by the fields of :class:`ParsingScores`."""
    audio, visual = parsed.audio, parsed.visual
    return {"audio": audio.segments, "visual": visual.segments, "clip_audio": audio.clip, "clip_visual": visual.clip}


def _into_clip(progress: Progress) -> bool:
    """Whether the whole clip learns from the modalities in this batch, and not they from it."""
    return progress.batch % 2 == 1
