"""AVEL: Tian, Shi, Li, Duan, Xu, "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018, the task's baseline.

Audio-guided attention over the visual map, one BiLSTM per modality, fusion (late concatenation, or the dual multimodal residual network,
DMRN), and a softmax over C classes and background for each segment. Published on AVE, supervised: audio 59.5, visual 55.3, audio-visual
with attention 72.7 % of segments.

Under weak supervision the logits are pooled over time before the softmax, by their mean (``variant: paper``) or maximum (released).
Inference still takes the most probable label of each segment.

Deliberate differences from the released code:

* Training batches are shuffled (released: stored order, sorted by class, and the last 11 clips are never used).
* DMRN starts from random weights (its authors fine-tuned it from the network with attention).
* Under weak supervision the network that is best on validation is kept (released: the last).
* ``net.train()`` is restored after validation (released: never; without dropout this has no effect).
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from pipeline.batch import Batch
from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.dual_multimodal_residual import DualMultimodalResidual
from pipeline.layers.multiple_instance import video_loss
from pipeline.layers.pooling import masked_mean, max_over_time, mean_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.shared.inputs import Inputs, method_inputs, positions
from pipeline.methods.shared.localization import LocalizationMethod, SupervisionConfig
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets


class AvelRecipe(Recipe):
    """Adam 1e-3, divided by 10 at iteration 15,000, batches of 64, 300 epochs (weak: 250), as released."""

    learning_rate: float = Field(1e-3, gt=0)
    iteration_milestones: tuple[int, ...] = (15_000,)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(300, ge=1)


class AvelConfig(SupervisionConfig):
    """Defaults: the paper's network; narrower widths suit small data."""

    weak_defaults: ClassVar = {"recipe": {"epochs": 250}}

    modality: Literal["audio_visual", "audio", "visual"] = Field(
        "audio_visual", description="visual: uses the map's mean, because there is no audio to guide attention"
    )
    fusion: Literal["concatenation", "dmrn"] = Field("concatenation", description="of the two BiLSTMs' outputs; dmrn needs both modalities")
    variant: Literal["paper", "released"] = Field(
        "paper",
        description="loss: cross-entropy (paper) | multi-label soft margin on softmax probabilities (released; nearly flat);"
        " under weak supervision logits are pooled over time by their mean (paper) | maximum (released)",
    )
    attention_width: int = Field(512, ge=1, description="hidden width of the audio-guided attention")
    recurrent_width: int = Field(128, ge=1, description="width of one direction of each BiLSTM")
    classifier_width: int = Field(64, ge=1, description="hidden width after the concatenation; unused by dmrn")
    recipe: AvelRecipe = AvelRecipe()

    @property
    def attends_to_positions(self) -> bool:
        return self.modality == "audio_visual"

    @model_validator(mode="after")
    def _two_to_fuse(self) -> Self:
        if self.fusion == "dmrn" and self.modality != "audio_visual":
            raise ValueError(f"fusion: dmrn needs modality: audio_visual (here: {self.modality})")
        return self


@METHODS.register("avel")
class Avel(LocalizationMethod):
    """The A+V-att network, a single modality of it, or its DMRN version.

    ``variant: paper`` (default) trains with the paper's multi-class cross-entropy; ``released`` with the code's MultiLabelSoftMarginLoss on
    probabilities, which only ranges from about 0.71 to 0.68 for C = 28 and learns slowly.
    Parameters at 7x7x512 / 128, C = 28, full or weak: 1,335,246 with concatenation, 1,571,150 with DMRN, as released.
    """

    Config = AvelConfig
    config: AvelConfig

    def __init__(self, config: AvelConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual_width, audio_width = self.visual_shape[-1], self.audio_shape[0]
        recurrent_width = 2 * config.recurrent_width
        self.attention: AudioGuidedSpatialAttention | None = None
        if config.modality == "audio_visual":
            self.attention = AudioGuidedSpatialAttention(visual_width, audio_width, positions(self.visual_shape), config.attention_width)
        if config.modality != "visual":
            self.audio_lstm = SegmentLSTM(audio_width, recurrent_width)
        if config.modality != "audio":
            self.visual_lstm = SegmentLSTM(visual_width, recurrent_width)
        self.fusion: DualMultimodalResidual | None = None
        self.classifier: nn.Module
        if config.fusion == "dmrn":
            self.fusion = DualMultimodalResidual(recurrent_width)
            self.classifier = nn.Linear(recurrent_width, num_classes + 1)
        else:
            joined = (2 if config.modality == "audio_visual" else 1) * recurrent_width
            self.classifier = nn.Sequential(
                nn.Linear(joined, config.classifier_width), nn.ReLU(), nn.Linear(config.classifier_width, num_classes + 1)
            )
        for block in filter(None, (self.attention, self.fusion, self.classifier)):
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)

    def _logits(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Segment logits (B, T, C+1) and attention weights (B, T, S) or None."""
        visual, audio, lengths = inputs.visual, inputs.audio, inputs.lengths
        weights = None
        hidden = []
        if self.config.modality != "visual":
            hidden.append(self.audio_lstm(audio, lengths))
        if self.config.modality != "audio":
            if self.attention is None:
                attended = visual.mean(dim=-2)
            else:
                attended, weights = self.attention(visual, audio)
            hidden.append(self.visual_lstm(attended, lengths))
        fused = torch.relu(torch.cat(hidden, dim=-1)) if self.fusion is None else self.fusion(*hidden)
        return at_least_float32(self.classifier(fused)), weights

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``segments``, equal to ``total``; mean over valid segments."""
        logits, _ = self._logits(method_inputs(self, batch))
        if self.config.variant == "paper":
            terms = cross_entropy(logits.movedim(-1, 1), targets.segments, reduction="none")
        else:
            truth = one_hot(targets.segments, self.num_classes + 1).to(logits.dtype)
            terms = binary_cross_entropy_with_logits(logits.softmax(dim=-1), truth, reduction="none").mean(dim=-1)
        loss = masked_mean(terms, batch.mask)
        return {"segments": loss, "total": loss}

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video``, equal to ``total``; mean over clips."""
        inputs = method_inputs(self, batch)
        logits, _ = self._logits(inputs)
        labels = targets.labels.to(logits.dtype)
        if self.config.variant == "paper":
            terms = video_loss(mean_over_time(logits, inputs.mask), labels, "cross_entropy")
        else:
            terms = video_loss(max_over_time(logits, inputs.mask), labels, "soft_margin")
        loss = masked_mean(terms, batch.mask.any(dim=1))
        return {"video": loss, "total": loss}

    def predict(self, batch: Batch) -> Scores:
        logits, weights = self._logits(method_inputs(self, batch))
        return Scores(segments=logits.softmax(dim=-1), attention=None if weights is None else at_least_float32(weights))
