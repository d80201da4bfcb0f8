"""VSCG: Jiang, Yin, Dang, "Leveraging the Video-level Semantic Consistency of Event for Audio-visual Event Localization", 2022.

On AVE, VGG-19 + VGGish features. Its published percentages could not be verified, so no run is compared with them.

PSP's body (:mod:`pipeline.methods.psp`), then :class:`pipeline.methods.vscg.summary.EventSummary` of each modality, which starts one
bidirectional GRU a modality.

Full supervision: the summaries' mean starts both GRUs; F is the mean of LN(ReLU(W h_v)) and LN(ReLU(W' h_a)) with one shared norm; an event
head on F and a class head on its maximum over time; event + class + ``pair`` (PSP's loss, weight 1).

Weak supervision is another network: no second normalization in the propagation, but its projections; the audio's GRU starts from a linear
map of the *visual* summary, the visual one from the audio's; dropout 0.5 on both outputs, the shared norm, and PSP's weak head. The loss is
2 BCE(P) + BCE(softmax(P)) with P the softmax of the mean logits, so the second term is of a softmax of a softmax, as released.
``video_labels: proportions`` are the released labels, which leak the event's duration; the default is "one_hot".

Deviations of the released code, and what we do:

* It calls a segment an event where the probability exceeds 0.7, not 0.5; where the number is from is not said. ``event_threshold: 0.5``
  (default) or 0.7, full supervision only.
* It feeds the visual features to the modules named audio and the reverse, throughout. Both have the same shapes, so only names differ; ours
  are named after what they read.
* It keeps the epoch that is best on test; ours is chosen on validation. The last, smaller batch is used.
* The milestones of its learning rate and its batch size are not in our notes: those of PSP.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from pipeline.batch import Batch
from pipeline.layers.multiple_instance import video_loss
from pipeline.layers.pooling import masked_mean, max_over_time, mean_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.propagation import pair_similarity_loss
from pipeline.layers.recurrent import SegmentGRU
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.propagation import PropagationConfig, PropagationMethod
from pipeline.methods.shared.two_heads import Heads, TwoHeadMethod
from pipeline.methods.vscg.summary import EventSummary
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets


class VscgRecipe(Recipe):
    """Adam 1e-3, times 0.8 after epochs 60 and 120 of 300 (weak: 80 and 160), batches of 128."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(300, ge=1)
    milestones: tuple[int, ...] = (60, 120)
    decay: float = Field(0.8, gt=0, le=1)


class VscgConfig(PropagationConfig):
    """Defaults: the released network; narrower widths suit small data."""

    weak_defaults: ClassVar = {"recipe": {"milestones": (80, 160)}}

    event_threshold: float = Field(0.5, gt=0, lt=1, description="probability from which a segment is an event; released: 0.7")
    pair_weight: float = Field(1.0, ge=0, description="of the pair similarity loss (full supervision)")
    dropout: float = Field(0.2, ge=0, lt=1, description="in the propagation and on the projections behind the GRUs")
    recurrent_dropout: float = Field(0.5, ge=0, lt=1, description="on the GRUs' outputs (weak supervision)")
    recipe: VscgRecipe = VscgRecipe()


@METHODS.register("vscg")
class Vscg(PropagationMethod, TwoHeadMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 2,376,782; weakly supervised 2,257,166.
    """

    Config = VscgConfig
    config: VscgConfig

    def __init__(self, config: VscgConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        weak = config.supervision == "weak"
        super().__init__(
            config, visual_shape, audio_shape, num_classes, refined=not weak, projected=weak, normalized=weak
        )  # fmt: skip
        width = self.width
        self.summary = EventSummary(width)
        self.visual_gru, self.audio_gru = SegmentGRU(width, width), SegmentGRU(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if weak:
            self.visual_start, self.audio_start = (nn.Linear(width // 2, width // 2, bias=False) for _ in range(2))
            self.recurrent_dropout = nn.Dropout(config.recurrent_dropout)
            self.add_classifier()
        else:
            self.visual_output, self.audio_output = (
                nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Dropout(config.dropout)) for _ in range(2)
            )
            self.event_head = nn.Linear(width, 1)
            self.class_head = nn.Linear(width, num_classes)
        self.start_xavier()

    @property
    def event_threshold(self) -> float:
        return self.config.event_threshold

    def _streams(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Visual and audio (B, T, D) behind the shared norm, and the weights of the positions (B, T, S)."""
        visual, audio, weights = self.propagated(inputs)
        of_visual, of_audio = self.summary(visual, inputs.mask), self.summary(audio, inputs.mask)
        if self.weak:
            visual_start, audio_start = self.visual_start(of_audio), self.audio_start(of_visual)
        else:
            visual_start = audio_start = (of_visual + of_audio) / 2
        visual = self.visual_gru(visual, visual_start, inputs.lengths)
        audio = self.audio_gru(audio, audio_start, inputs.lengths)
        if self.weak:
            visual, audio = self.recurrent_dropout(visual), self.recurrent_dropout(audio)
        else:
            visual, audio = self.visual_output(visual), self.audio_output(audio)
        return self.norm(visual), self.norm(audio), weights

    def _heads(self, visual: Tensor, audio: Tensor, weights: Tensor, mask: Tensor) -> Heads:
        fused = (visual + audio) / 2
        classes = at_least_float32(self.class_head(max_over_time(fused, mask)))
        return Heads(at_least_float32(self.event_head(fused)).squeeze(-1), classes, weights)

    def heads(self, inputs: Inputs) -> Heads:
        return self._heads(*self._streams(inputs), inputs.mask)

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` + ``class`` + pair_weight * ``pair``; means over valid segments or clips."""
        inputs = method_inputs(self, batch)
        visual, audio, weights = self._streams(inputs)
        terms = self.head_terms(self._heads(visual, audio, weights, inputs.mask), targets, batch.mask)
        similarity = cosine_similarity(at_least_float32(visual), at_least_float32(audio), dim=-1)
        terms["pair"] = pair_similarity_loss(similarity, targets.segments < self.num_classes, batch.mask)
        return {**terms, "total": terms["event"] + terms["class"] + self.config.pair_weight * terms["pair"]}

    def _logits(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Weak supervision: segment logits (B, T, C+1), and the weights of the positions (B, T, S)."""
        visual, audio, weights = self._streams(inputs)
        return self.segment_logits((visual + audio) / 2), at_least_float32(weights)

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """2 ``video`` + ``twice_squashed``; means over clips."""
        inputs = method_inputs(self, batch)
        pooled = mean_over_time(self._logits(inputs)[0], inputs.mask)
        labels, known = targets.labels.to(pooled.dtype), batch.mask.any(dim=1)
        video = masked_mean(video_loss(pooled, labels, "binary"), known)
        squashed = masked_mean(video_loss(pooled.softmax(dim=-1), labels, "binary"), known)
        return {"video": video, "twice_squashed": squashed, "total": 2 * video + squashed}

    def predict(self, batch: Batch) -> Scores:
        if not self.weak:
            return super().predict(batch)
        logits, weights = self._logits(method_inputs(self, batch))
        return Scores(segments=torch.softmax(logits, dim=-1), attention=weights)
