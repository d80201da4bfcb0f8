"""MAGAN, corrected: the released network of laulliam/MAGAN for audio-visual event localization.

On AVE, VGG-19 + VGGish features. Neither journal nor percentages could be retrieved, so no run is compared with a published number.

Self-attention within each modality, guidance of each by the other (:mod:`pipeline.methods.magan.attention`), BiLSTMs, CMRAN's relations,
two interactions V' = INTER(V, A), A' = INTER(A, V'), and gates:

* g_a and g_v, sigmoids on the memories: V' (0.9 + 0.1 g_a) and A' (0.9 + 0.1 g_v) give class scores of the modalities, the mean of
  their top 4 over time.
* m, a sigmoid on [V'; A']: F = m V' + (1 - m) A'. Event and class heads on F as CMRAN's, and class scores of F like those above.

Losses: event + class + 1/2 (``modality_gate`` + ``fusion_gate``) + 1/2 (``modality_class`` + ``fusion_class``).

Faults of the released code, and what we do:

* Its self-attentions take (segments of all clips, positions, D) for (time, batch, D): they attend over the clips and seconds of a batch,
  position by position, so a clip's answer depends on the others. Here: over the positions of a segment, and over the segments of a clip.
* ``losses: corrected`` (default): gates are probabilities, g_a and g_v by their mean, and class scores are logits. ``faithful``, as
  released: the sum g_a + g_v and m pass another sigmoid, and the class scores' softmaxes another softmax, so with 28 classes a class
  term lies between 2.39 and 3.39 whatever is learned. Under weak supervision there is the corrected form alone.
* m is pulled to 1 on event segments in both forms, that is to vision alone there. Kept.
* Events from a probability of 0.7 on, chosen on test by all signs: ``event_threshold`` 0.5 (default) or 0.7. The best epoch on test: here
  on validation. The learning rate is 7e-4 in its script (default), 1e-4 in its README.
* The released weak network cannot run (its gate expects another width). Under weak supervision ours learns from CMRAN's clip logits and
  both class scores; the gates have no loss.
* Not kept: 0.59 M parameters without a gradient (attentions over one element), 4.48 M never used, and float64.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from pipeline.batch import Batch
from pipeline.layers.multiple_instance import video_loss
from pipeline.layers.pooling import masked_mean, max_over_time, top_k_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.layers.relation import BimodalRelation, Interaction, check_heads
from pipeline.methods.base import METHODS, Progress
from pipeline.methods.magan.attention import AudioToVisual, SelfAttention, VisualToAudio
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.localization import SupervisionConfig
from pipeline.methods.shared.suppression import SuppressionRecipe
from pipeline.methods.shared.two_heads import Heads, TwoHeadMethod, class_loss, event_loss
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.labels import VideoTargets

TOP = 4  # segments averaged into a clip's class score
SHARE = 0.1  # of a gated modality


class MaganConfig(SupervisionConfig):
    """Defaults: the released widths, corrected losses; narrower widths suit small data."""

    losses: Literal["corrected", "faithful"] = Field("corrected", description="of gates and class scores; faithful: as released")
    event_threshold: float = Field(0.5, gt=0, lt=1, description="probability from which a segment is an event; released: 0.7")
    recurrent_width: int = Field(256, ge=1, description="width of one direction of each BiLSTM")
    width: int = Field(256, ge=1, description="d, in the relations and in the guidance's hidden layers")
    heads: int = Field(4, ge=1, description="of all attention; of the features themselves the most that divide their width")
    feedforward: int = Field(1024, ge=1, description="hidden width in the relation blocks")
    input_dropout: float = Field(0.2, ge=0, lt=1, description="behind the self-attention of each modality")
    dropout: float = Field(0.1, ge=0, lt=1, description="in self-attention, relations and interactions")
    interaction_dropout: float = Field(0.2, ge=0, lt=1, description="on the interactions' attention weights")
    recipe: SuppressionRecipe = SuppressionRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self

    @property
    def attends_to_positions(self) -> bool:
        return True


class Outputs(NamedTuple):
    """Both heads, logits of the gates (B, T), and class scores (B, K), of the modalities their sum."""

    heads: Heads
    audio_gate: Tensor
    visual_gate: Tensor
    fusion_gate: Tensor
    modality_classes: Tensor
    fusion_classes: Tensor


@METHODS.register("magan")
class Magan(TwoHeadMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 12,507,386 (released 17,574,652, of which 4.48 M are never used and 0.59 M get no gradient);
    weakly supervised 12,508,414.
    """

    Config = MaganConfig
    config: MaganConfig

    def __init__(self, config: MaganConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width, labels = self.visual_shape[-1], self.audio_shape[0], config.width, self.clip_labels
        self.visual_own = SelfAttention(visual, divisor(visual, config.heads), config.dropout, config.input_dropout)
        self.audio_own = SelfAttention(audio, divisor(audio, config.heads), config.dropout, config.input_dropout)
        self.audio_guides, self.visual_guides = AudioToVisual(visual, audio, width), VisualToAudio(visual, audio, width)
        joined = 2 * config.recurrent_width
        self.visual_lstm, self.audio_lstm = SegmentLSTM(visual, joined), SegmentLSTM(visual, joined)
        self.relation = BimodalRelation(joined, joined, width, config.heads, config.feedforward, config.feedforward, config.dropout)
        interaction = (width, config.heads, config.interaction_dropout, config.dropout)
        self.visual_interaction, self.audio_interaction = Interaction(*interaction), Interaction(*interaction)
        self.visual_gate, self.audio_gate = nn.Linear(width, 1), nn.Linear(width, 1)
        self.visual_scores, self.audio_scores = nn.Linear(width, labels), nn.Linear(width, labels)
        self.fusion_gate = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))
        self.fusion_scores = nn.Linear(width, labels)
        self.event_head, self.class_head = nn.Linear(width, 1), nn.Linear(width, labels)

    @property
    def event_threshold(self) -> float:
        return self.config.event_threshold

    def _outputs(self, inputs: Inputs) -> Outputs:
        mask = inputs.mask
        maps = self.visual_own(inputs.visual.flatten(0, 1)).unflatten(0, mask.shape)
        sounds = self.audio_own(inputs.audio, mask)
        attended, weights = self.audio_guides(maps, sounds)
        visual = self.visual_lstm(attended, inputs.lengths)
        audio = self.audio_lstm(self.visual_guides(maps, sounds), inputs.lengths)
        related = self.relation(visual, audio, mask)
        visual = self.visual_interaction(related.visual, related.audio, mask)
        audio = self.audio_interaction(related.audio, visual, mask)
        audio_gate, visual_gate = self.audio_gate(related.audio_memory), self.visual_gate(related.visual_memory)
        scores = [
            top_k_mean(at_least_float32(head(x * (1 - SHARE + SHARE * gate.sigmoid()))), mask, TOP)
            for head, x, gate in ((self.visual_scores, visual, audio_gate), (self.audio_scores, audio, visual_gate))
        ]
        fusion_gate = self.fusion_gate(torch.cat([visual, audio], dim=-1))
        share = fusion_gate.sigmoid()
        fused = share * visual + (1 - share) * audio
        classes = at_least_float32(self.class_head(max_over_time(fused, mask)))
        return Outputs(
            Heads(at_least_float32(self.event_head(fused)).squeeze(-1), classes, weights),
            at_least_float32(audio_gate).squeeze(-1),
            at_least_float32(visual_gate).squeeze(-1),
            at_least_float32(fusion_gate).squeeze(-1),
            scores[0] + scores[1],
            top_k_mean(at_least_float32(self.fusion_scores(fused)), mask, TOP),
        )

    def heads(self, inputs: Inputs) -> Heads:
        return self._outputs(inputs).heads

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` + ``class`` + halves of ``modality_gate``, ``fusion_gate``, ``modality_class``, ``fusion_class``."""
        outputs = self._outputs(method_inputs(self, batch))
        event, known = targets.segments < self.num_classes, batch.mask.any(dim=1)
        terms = self.head_terms(outputs.heads, targets, batch.mask)
        if self.config.losses == "faithful":
            summed = outputs.audio_gate.sigmoid() + outputs.visual_gate.sigmoid()
            terms["modality_gate"] = event_loss(summed, event, batch.mask)
            terms["fusion_gate"] = event_loss(outputs.fusion_gate.sigmoid(), event, batch.mask)
        else:
            truth = event.to(outputs.fusion_gate.dtype)
            terms["modality_gate"] = masked_mean(mean_gate_loss(outputs.audio_gate, outputs.visual_gate, truth), batch.mask)
            gates = binary_cross_entropy_with_logits(outputs.fusion_gate, truth, reduction="none")
            terms["fusion_gate"] = masked_mean(gates, batch.mask)
        for name, scores in (("modality_class", outputs.modality_classes), ("fusion_class", outputs.fusion_classes)):
            scores = scores.softmax(dim=-1) if self.config.losses == "faithful" else scores
            terms[name] = class_loss(scores, targets.video, known)
        halves = torch.stack([term for name, term in terms.items() if name not in ("event", "class")]).sum() / 2
        return {**terms, "total": terms["event"] + terms["class"] + halves}

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video`` + 1/2 (``modality_class`` + ``fusion_class``); means over clips."""
        inputs = method_inputs(self, batch)
        outputs = self._outputs(inputs)
        known, labels = batch.mask.any(dim=1), targets.labels.to(outputs.fusion_classes.dtype)
        terms = {
            "video": self.video_term(outputs.heads, targets, inputs.mask, batch.mask),
            "modality_class": masked_mean(video_loss(outputs.modality_classes, labels, "cross_entropy"), known),
            "fusion_class": masked_mean(video_loss(outputs.fusion_classes, labels, "cross_entropy"), known),
        }
        return {**terms, "total": terms["video"] + (terms["modality_class"] + terms["fusion_class"]) / 2}


def mean_gate_loss(first: Tensor, second: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of the mean of two sigmoids: logits (B, T) twice, truth -> (B, T)."""
    both = torch.stack([first, second])
    mean, rest = (logsigmoid(x).logsumexp(dim=0) - math.log(2) for x in (both, -both))
    return -(truth * mean + (1 - truth) * rest)


def divisor(width: int, heads: int) -> int:
    """The largest number of heads up to ``heads`` that divides the features' width."""
    return next(number for number in range(heads, 0, -1) if width % number == 0)
