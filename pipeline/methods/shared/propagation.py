"""The body of PSP's network, which CPSP and VSCG inherited, and the head of its weakly supervised form.

Zhou et al., "Positive Sample Propagation along the Audio-Visual Event Line" (PSP), CVPR 2021, as released.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.precision import at_least_float32
from pipeline.layers.propagation import PositiveSamplePropagation
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.methods.shared.inputs import Inputs, positions
from pipeline.methods.shared.localization import LocalizationMethod, SupervisionConfig
from pipeline.tasks.labels import Labels


class PropagationConfig(SupervisionConfig):
    """Settings of the body; the defaults are PSP's under full supervision."""

    video_labels: Literal["one_hot", "proportions"] = Field("one_hot", description="weak supervision only; proportions leak durations")
    threshold: float = Field(0.099, ge=0, lt=1, description="tau of the propagation; weak PSP and CPSP: 0.095")
    attention_width: int = Field(512, ge=1, description="hidden width of the audio-guided attention")
    input_width: int = Field(128, ge=1, description="input width of the BiLSTMs; weak supervision: of the visual one")
    input_hidden: int = Field(256, ge=1, description="between the two linear maps of each modality (full supervision)")
    recurrent_width: int = Field(128, ge=1, description="width of one direction of each BiLSTM")
    classifier_width: int = Field(64, ge=1, description="hidden width of a classifier of segments")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the propagation")

    @property
    def training_labels(self) -> Labels:
        labels = super().training_labels
        return "proportions" if labels == "video" and self.video_labels == "proportions" else labels

    @property
    def attends_to_positions(self) -> bool:
        return True


class PropagationMethod(LocalizationMethod):
    """A method with PSP's body: audio-guided attention, BiLSTMs, and the propagation of positive samples.

    Full supervision: two linear maps without activation project each modality, the audio already before the attention. Weak: raw audio, one
    linear map on the attended visual features. ``propagation`` (keyword arguments) changes the propagation's form.
    """

    config: PropagationConfig

    def __init__(
        self, config: PropagationConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int, **propagation: Any
    ) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio = self.visual_shape[-1], self.audio_shape[0]
        self.audio_input: nn.Module = nn.Identity()
        self.visual_input: nn.Module = nn.Linear(visual, config.input_width)
        if not self.weak:
            self.audio_input, self.visual_input = self._two_maps(audio), self._two_maps(visual)
            audio = config.input_width
        self.attention = AudioGuidedSpatialAttention(visual, audio, positions(self.visual_shape), config.attention_width)
        self.width = 2 * config.recurrent_width
        self.audio_lstm, self.visual_lstm = SegmentLSTM(audio, self.width), SegmentLSTM(config.input_width, self.width)
        form = {"refined": not self.weak, **propagation}
        self.propagation = PositiveSamplePropagation(self.width, config.threshold, config.dropout, **form)

    def _two_maps(self, width: int) -> nn.Module:
        hidden, output = self.config.input_hidden, self.config.input_width
        return nn.Sequential(nn.Linear(width, hidden, bias=False), nn.Linear(hidden, output, bias=False))

    def add_classifier(self) -> None:
        """Add the classifier of segments, and under weak supervision the weight of a segment that it reads from its logits."""
        labels = self.num_classes + 1
        self.classifier = nn.Sequential(
            nn.Linear(self.width, self.config.classifier_width, bias=False),
            nn.ReLU(),
            nn.Linear(self.config.classifier_width, labels, bias=False),
        )
        self.temporal_weight = nn.Linear(labels, 1, bias=False) if self.weak else None

    def start_xavier(self) -> None:
        """Draw the weights of all linear layers anew, Xavier-uniform; biases keep torch's start."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)

    def propagated(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Visual and audio (B, T, D) after the propagation, and the weights of the positions (B, T, S)."""
        audio = self.audio_input(inputs.audio)
        attended, weights = self.attention(inputs.visual, audio)
        visual, audio = self.visual_lstm(self.visual_input(attended), inputs.lengths), self.audio_lstm(audio, inputs.lengths)
        return *self.propagation(visual, audio, inputs.mask), weights

    def segment_logits(self, fused: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, C+1); scaled by the segment's own weight in [0.5, 1) under weak supervision."""
        logits = at_least_float32(self.classifier(fused))
        if self.temporal_weight is not None:
            logits = logits * torch.sigmoid(torch.relu(at_least_float32(self.temporal_weight(logits))))
        return logits
