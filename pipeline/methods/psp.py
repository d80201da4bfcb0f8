"""PSP: Zhou, Zheng, Zhong, Hao, Wang, "Positive Sample Propagation along the Audio-Visual Event Line", CVPR 2021.

Published on AVE, VGG-19 + VGGish features: supervised 77.8 % of segments. The published weak figure, trained with the labels
``proportions`` (below), could not be verified.

AVEL's audio-guided attention, BiLSTMs, propagation of positive samples, the mean of both modalities, and one softmax over C classes and
background for each segment.

Full supervision: two linear maps without activation project each modality before the BiLSTMs (the audio already before the attention).
Beside the cross-entropy, a loss pulls the similarity of the modalities over time towards the event segments (``pair``, weight 100).

Weak supervision: raw audio, one linear map for the visual features, no second normalization and projection in the propagation. Segment
logits are scaled by their own weight sigmoid(ReLU(w s)), in [0.5, 1), and the clip's probabilities are the softmax of their mean over
time, with binary cross-entropy. ``video_labels``: "one_hot" (default) gives the clip's classes; "proportions" is the released
``prob_label``, the share of a clip's segments of each class and of the background. It leaks the event's duration into supervision called
weak, so use it only to compare with published figures.

Deliberate differences from the released code: the last, smaller batch of an epoch is used; validation runs after every epoch (released:
every fifth). Linear layers start from Xavier-uniform weights, biases from torch's default. Not kept: parameters never used.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from pipeline.batch import Batch
from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.multiple_instance import video_loss
from pipeline.layers.pooling import masked_mean, mean_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.shared.inputs import Inputs, method_inputs, positions
from pipeline.methods.shared.localization import LocalizationMethod, SupervisionConfig
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import Labels, VideoTargets

EPSILON = 1e-8


class PspRecipe(Recipe):
    """Adam 1e-3, times 0.8 after epochs 60 and 120 of 300 (weak: 80 and 160), batches of 128."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(300, ge=1)
    milestones: tuple[int, ...] = (60, 120)
    decay: float = Field(0.8, gt=0, le=1)


class PspConfig(SupervisionConfig):
    """Defaults: the released network; narrower widths suit small data."""

    weak_defaults: ClassVar = {"threshold": 0.095, "recipe": {"milestones": (80, 160)}}

    video_labels: Literal["one_hot", "proportions"] = Field("one_hot", description="weak supervision only; proportions leak durations")
    threshold: float = Field(0.099, ge=0, lt=1, description="tau of the propagation; weak supervision: 0.095")
    pair_weight: float = Field(100.0, ge=0, description="of the pair similarity loss (full supervision)")
    attention_width: int = Field(512, ge=1, description="hidden width of the audio-guided attention")
    input_width: int = Field(128, ge=1, description="input width of the BiLSTMs; weak supervision: of the visual one")
    input_hidden: int = Field(256, ge=1, description="between the two linear maps of each modality (full supervision)")
    recurrent_width: int = Field(128, ge=1, description="width of one direction of each BiLSTM")
    classifier_width: int = Field(64, ge=1, description="hidden width of the classifier")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the propagation")
    recipe: PspRecipe = PspRecipe()

    @property
    def training_labels(self) -> Labels:
        labels = super().training_labels
        return "proportions" if labels == "video" and self.video_labels == "proportions" else labels

    @property
    def attends_to_positions(self) -> bool:
        return True


class PositiveSamplePropagation(nn.Module):
    """Add to each segment the similar segments of the other modality, cutting weak connections; as released.

    b = ReLU(v_2 a_1^T / sqrt(D)); each matrix row is divided by its sum; entries up to ``threshold`` become 0, giving g; v+ = v + g a_2;
    likewise a+ = a + g' v_1 with g' from b^T. v_1, v_2, a_1, a_2 are ReLU projections of v and a. Both modalities share one layer norm.

    Args:
        width: D.
        threshold: tau, compared with matrix rows that sum to 1: with T = 10 segments, 0.1 is an even share.
        dropout: of the projections.
        refined: normalize the matrix rows again after the cut and project v+, a+ before the norm (supervised PSP; weak PSP does neither).
    """

    def __init__(self, width: int, threshold: float, dropout: float, refined: bool) -> None:
        super().__init__()

        def branch() -> nn.Module:
            return nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Dropout(dropout))

        self.visual_value, self.visual_key, self.audio_key, self.audio_value = branch(), branch(), branch(), branch()
        self.visual_output: nn.Module = branch() if refined else nn.Identity()
        self.audio_output: nn.Module = branch() if refined else nn.Identity()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.threshold, self.refined = threshold, refined

    def forward(self, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Propagate both ways: (B, T, D), (B, T, D), (B, T) bool -> visual, audio (B, T, D)."""
        resemblance = torch.relu(self.visual_key(visual) @ self.audio_key(audio).transpose(1, 2) / visual.shape[-1] ** 0.5)
        resemblance = resemblance.masked_fill(~(mask.unsqueeze(2) & mask.unsqueeze(1)), 0.0)  # (B, T visual, T audio)
        to_visual = self._connections(resemblance).to(visual.dtype)
        to_audio = self._connections(resemblance.transpose(1, 2)).to(audio.dtype)
        visual_sum = visual + to_visual @ self.audio_value(audio)
        audio_sum = audio + to_audio @ self.visual_value(visual)
        return self.norm(self.visual_output(visual_sum)), self.norm(self.audio_output(audio_sum))

    def _connections(self, resemblance: Tensor) -> Tensor:
        """Each matrix row's shares above the threshold, the others 0: (B, T, T), >= 0 -> (B, T, T)."""
        resemblance = at_least_float32(resemblance)
        shares = resemblance / (resemblance.sum(dim=-1, keepdim=True) + EPSILON)
        kept = shares.masked_fill(shares <= self.threshold, 0.0)
        return kept / (kept.sum(dim=-1, keepdim=True) + EPSILON) if self.refined else kept


@METHODS.register("psp")
class Psp(LocalizationMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 1,548,657 (released 1,667,251 minus 118,594 never used); weakly supervised 1,253,902 (1,254,251
    minus 349).
    """

    Config = PspConfig
    config: PspConfig

    def __init__(self, config: PspConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio = self.visual_shape[-1], self.audio_shape[0]
        self.audio_input: nn.Module = nn.Identity()
        self.visual_input: nn.Module = nn.Linear(visual, config.input_width)
        if not self.weak:
            self.audio_input, self.visual_input = self._two_maps(audio), self._two_maps(visual)
            audio = config.input_width
        self.attention = AudioGuidedSpatialAttention(visual, audio, positions(self.visual_shape), config.attention_width)
        width = 2 * config.recurrent_width
        self.audio_lstm, self.visual_lstm = SegmentLSTM(audio, width), SegmentLSTM(config.input_width, width)
        self.propagation = PositiveSamplePropagation(width, config.threshold, config.dropout, refined=not self.weak)
        self.classifier = nn.Sequential(
            nn.Linear(width, config.classifier_width, bias=False),
            nn.ReLU(),
            nn.Linear(config.classifier_width, num_classes + 1, bias=False),
        )
        self.temporal_weight = nn.Linear(num_classes + 1, 1, bias=False) if self.weak else None
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)

    def _two_maps(self, width: int) -> nn.Module:
        hidden, output = self.config.input_hidden, self.config.input_width
        return nn.Sequential(nn.Linear(width, hidden, bias=False), nn.Linear(hidden, output, bias=False))

    def _logits(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Segment logits (B, T, C+1), cosine similarity of the modalities (B, T), weights of the positions (B, T, S)."""
        audio = self.audio_input(inputs.audio)
        attended, weights = self.attention(inputs.visual, audio)
        visual, audio = self.visual_lstm(self.visual_input(attended), inputs.lengths), self.audio_lstm(audio, inputs.lengths)
        visual, audio = self.propagation(visual, audio, inputs.mask)
        logits = at_least_float32(self.classifier((visual + audio) / 2))
        if self.temporal_weight is not None:
            logits = logits * torch.sigmoid(torch.relu(at_least_float32(self.temporal_weight(logits))))
        similarity = cosine_similarity(at_least_float32(visual), at_least_float32(audio), dim=-1)
        return logits, similarity, at_least_float32(weights)

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``segments`` (cross-entropy) + pair_weight * ``pair``; means over valid segments."""
        logits, similarity, _ = self._logits(method_inputs(self, batch))
        segments = masked_mean(cross_entropy(logits.movedim(-1, 1), targets.segments, reduction="none"), batch.mask)
        pair = pair_similarity_loss(similarity, targets.segments < self.num_classes, batch.mask)
        return {"segments": segments, "pair": pair, "total": segments + self.config.pair_weight * pair}

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video``, equal to ``total``; mean over clips."""
        inputs = method_inputs(self, batch)
        pooled = mean_over_time(self._logits(inputs)[0], inputs.mask)
        terms = video_loss(pooled, targets.labels.to(pooled.dtype), "binary")
        loss = masked_mean(terms, batch.mask.any(dim=1))
        return {"video": loss, "total": loss}

    def predict(self, batch: Batch) -> Scores:
        logits, _, weights = self._logits(method_inputs(self, batch))
        return Scores(segments=logits.softmax(dim=-1), attention=weights)


def pair_similarity_loss(similarity: Tensor, event: Tensor, mask: Tensor) -> Tensor:
    """Squared distance between the shares of ReLU(similarity) in a clip and even shares of its event segments.

    Args:
        similarity: (B, T), cosines.
        event: (B, T), bool. The target of a clip without an event is even shares of all its segments.
        mask: (B, T), bool.

    Returns:
        Scalar, mean over valid segments.
    """
    event, positive = event & mask, torch.relu(similarity).masked_fill(~mask, 0.0)
    wanted = torch.where(event.any(dim=1, keepdim=True), event, mask).to(similarity.dtype)
    wanted = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1)
    shares = positive / (positive.sum(dim=1, keepdim=True) + EPSILON)
    return masked_mean((shares - wanted) ** 2, mask)
