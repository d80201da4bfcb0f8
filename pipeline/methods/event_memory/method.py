"""Localization by distances to a memory of each class's best segments: Ge et al., ACM MM 2023, as released.

On AVE, VGG-19 + VGGish features. Its published percentages could not be verified, so no run is compared with them. Its code chooses the
epoch on validation, as we do.

:class:`pipeline.methods.event_memory.fusion.Fusion` gives F of a clip. The memory (:mod:`pipeline.methods.event_memory.memory`) holds n
segments of each class as raw features; each training clip with an event offers the segment with the highest
1 - JSD(softmax a', softmax v') + y_t, and the best n stay. The same fusion gives M of the memory, with slots in the place of time.

* A class's prototype is the mean of its M; its prototype logit is -10 times the mean distance of the clip's F to it, over sqrt(D).
* d_tk is the distance of F_t to slot k of a class, over sqrt(D).
* Answer: the class with the largest prototype logit; the probability of an event is sigmoid(margin - min_k d) for that class. Weak: the
  class with the largest sum of the softmaxes of prototype and class logits.

Full supervision: event (a head, in training only), class on the mean over time, 0.01 ``modality_class`` (a class head on each of a' and v'
at event segments), 0.1 ``prototype`` and 0.1 ``margin``: max_k d, averaged over event segments, plus ReLU(margin - min_k d), averaged over
background segments, for the clip's true class.

Weak supervision (20 slots, margin 0.9): y_t is left out of the offer and of ``modality_class``; the event's loss is of the mean probability
against whether the clip has an event; ``margin`` is the mean of p max_k d + (1 - p) ReLU(margin - min_k d), p the event head's probability.

As released, by intention or not: dropout acts on the logits of both heads; empty slots are zeros, pass the fusion and count in prototypes
and distances, so early epochs compare with them; a stored segment keeps the score that it was stored with; a silent clip is not stored
while its class has empty slots, as its audio sum is theirs.

Ours: under full supervision a clip without an event counts as class 0, as in the whole family; under weak supervision only the event's loss
counts it; it offers nothing. Of several labels of a weak clip the first counts; released proportion labels are not used. Dropout in the
attention is 0.1 by our reading. The memory is stored with the weights, 90 MB at AVE's shapes. Where a GPU records steps, the memory is part
of the record; with several processes each fills its own and the first one's is kept.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pipeline.batch import Batch
from pipeline.layers.pooling import masked_mean, mean_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.event_memory.fusion import FusedSegments, Fusion
from pipeline.methods.event_memory.memory import EventMemory, agreement
from pipeline.methods.shared.inputs import Inputs, method_inputs, positions
from pipeline.methods.shared.localization import LocalizationMethod, SupervisionConfig
from pipeline.methods.shared.two_heads import class_loss, event_loss, scores_of_heads
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets


class EventMemoryRecipe(Recipe):
    """Adam 3e-4 along a cosine, batches of 128, 300 epochs."""

    learning_rate: float = Field(3e-4, gt=0)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(300, ge=1)
    schedule: Literal["milestones", "cosine"] = "cosine"


class EventMemoryConfig(SupervisionConfig):
    """Defaults: the released network; narrower widths suit small data."""

    weak_defaults: ClassVar = {"slots": 20, "margin": 0.9}

    slots: int = Field(32, ge=1, description="n, segments a class in the memory; weak supervision: 20")
    margin: float = Field(0.7, gt=0, description="distance from which a segment is background; weak supervision: 0.9")
    modality_weight: float = Field(0.01, ge=0, description="of the class losses of each modality alone")
    prototype_weight: float = Field(0.1, ge=0, description="of the class loss of the prototypes")
    margin_weight: float = Field(0.1, ge=0, description="of the margin loss")
    width: int = Field(256, ge=2, description="D")
    heads: int = Field(4, ge=1, description="of the attention")
    feedforward: int = Field(1024, ge=1, description="hidden width in the attention blocks")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    head_dropout: float = Field(0.2, ge=0, lt=1, description="on the logits of both heads, as released")
    recipe: EventMemoryRecipe = EventMemoryRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        if self.width % 2:
            raise ValueError(f"width ({self.width}) must be even: sines and cosines share the positional code")
        return self

    @property
    def attends_to_positions(self) -> bool:
        return True


class Compared(NamedTuple):
    """Prototype logits (B, C), and distances of the segments to a class's slots (B, T, n)."""

    prototypes: Tensor
    distances: Tensor


@METHODS.register("event_memory")
class EventMemoryMethod(LocalizationMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28, full or weak: 4,857,429, beside a memory of 22,594,432 numbers (weak: 14,121,520).
    """

    Config = EventMemoryConfig
    config: EventMemoryConfig

    def __init__(self, config: EventMemoryConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width = self.visual_shape[-1], self.audio_shape[0], config.width
        self.fusion = Fusion(visual, audio, width, config.heads, config.feedforward, config.dropout)
        self.event_head, self.class_head = nn.Linear(width, 1), nn.Linear(width, num_classes)
        self.audio_class_head, self.visual_class_head = nn.Linear(width, num_classes), nn.Linear(width, num_classes)
        self.head_dropout = nn.Dropout(config.head_dropout)
        self.memory = EventMemory(num_classes, config.slots, (positions(self.visual_shape), visual), audio)

    @property
    def clip_labels(self) -> int:
        """C under either supervision: a whole clip is background if none of its segments is near a slot."""
        return self.num_classes

    def _event_logits(self, fused: Tensor) -> Tensor:
        return at_least_float32(self.head_dropout(self.event_head(fused))).squeeze(-1)

    def _class_logits(self, fused: Tensor, mask: Tensor) -> Tensor:
        return at_least_float32(self.head_dropout(mean_over_time(self.class_head(fused), mask)))

    def _remembered(self) -> Tensor:
        """M, (C, n, D)."""
        memory, dtype = self.memory, self.event_head.weight.dtype
        every = torch.ones(memory.scores.shape, dtype=torch.bool, device=memory.scores.device)
        return at_least_float32(self.fusion(memory.visual.to(dtype), memory.audio.to(dtype), every).fused)

    def _prototype_logits(self, fused: Tensor, remembered: Tensor, mask: Tensor) -> Tensor:
        return -10 * mean_over_time(distances(at_least_float32(fused), remembered.mean(dim=1)), mask)

    def _compared(self, fused: Tensor, mask: Tensor, classes: Tensor) -> Compared:
        """Compare with the memory; distances are to the slots of ``classes`` (B,)."""
        remembered = self._remembered()
        return Compared(
            self._prototype_logits(fused, remembered, mask), distances(at_least_float32(fused), remembered[classes])
        )  # fmt: skip

    def _offer(self, inputs: Inputs, fused: FusedSegments, event: Tensor | None, classes: Tensor, offered: Tensor) -> None:
        """In training, fill the memory from a batch; ``event`` (B, T) bool adds 1 to a segment's score, None: nothing."""
        if not self.training:
            return
        scores = agreement(fused.audio.detach(), fused.visual.detach())
        scores = scores if event is None else scores + event
        best, place = scores.masked_fill(~inputs.mask, -1.0).max(dim=1)
        clips = torch.arange(len(place), device=place.device)
        self.memory.offer(inputs.audio[clips, place], inputs.visual[clips, place], best, classes, offered)

    def _modality_class(self, fused: FusedSegments, classes: Tensor, counted: Tensor, mask: Tensor) -> Tensor:
        """Class losses of a' and v' at the segments ``counted``, mean over all valid ones."""
        every = classes.unsqueeze(1).expand(mask.shape)
        terms = [
            cross_entropy(at_least_float32(head(x)).movedim(-1, 1), every, reduction="none")
            for head, x in ((self.audio_class_head, fused.audio), (self.visual_class_head, fused.visual))
        ]
        return masked_mean((terms[0] + terms[1]) * counted, mask)

    def _total(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        config = self.config
        weights = {"modality_class": config.modality_weight, "prototype": config.prototype_weight, "margin": config.margin_weight}
        return {**terms, "total": torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()}

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` + ``class``, and by their weights ``modality_class``, ``prototype`` and ``margin``; fills the memory first."""
        inputs, known = method_inputs(self, batch), batch.mask.any(dim=1)
        fused, event = self.fusion(inputs.visual, inputs.audio, inputs.mask), (targets.segments < self.num_classes) & batch.mask
        classes = targets.video.where(targets.video < self.num_classes, torch.zeros_like(targets.video))
        self._offer(inputs, fused, event, classes, event.any(dim=1))
        compared = self._compared(fused.fused, inputs.mask, classes)
        far, near = compared.distances.amax(dim=-1), torch.relu(self.config.margin - compared.distances.amin(dim=-1))
        margin = clip_means(far, event) + clip_means(near, ~event & batch.mask)
        return self._total({
            "event": event_loss(self._event_logits(fused.fused), event, batch.mask),
            "class": class_loss(self._class_logits(fused.fused, inputs.mask), targets.video, known),
            "modality_class": self._modality_class(fused, classes, event, batch.mask),
            "prototype": class_loss(compared.prototypes, targets.video, known),
            "margin": masked_mean(margin, known),
        })  # fmt: skip

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """As under full supervision, from clip labels; class terms count clips with an event."""
        inputs = method_inputs(self, batch)
        fused = self.fusion(inputs.visual, inputs.audio, inputs.mask)
        eventful = (targets.labels[:, :-1] > 0).any(dim=1) & batch.mask.any(dim=1)
        classes = (targets.labels[:, :-1] > 0).to(torch.uint8).argmax(dim=1)
        self._offer(inputs, fused, None, classes, eventful)
        compared = self._compared(fused.fused, inputs.mask, classes)
        probability = self._event_logits(fused.fused).sigmoid()
        far, near = compared.distances.amax(dim=-1), torch.relu(self.config.margin - compared.distances.amin(dim=-1))
        counted = eventful.unsqueeze(1) & batch.mask
        mean = mean_over_time(probability.unsqueeze(-1), inputs.mask).squeeze(-1)
        odds = torch.logit(mean, eps=1e-6)
        return self._total({
            "event": masked_mean(
                binary_cross_entropy_with_logits(odds, eventful.to(odds.dtype), reduction="none"), batch.mask.any(dim=1)
            ),
            "class": masked_mean(cross_entropy(self._class_logits(fused.fused, inputs.mask), classes, reduction="none"), eventful),
            "modality_class": self._modality_class(fused, classes, eventful.unsqueeze(1), counted),
            "prototype": masked_mean(cross_entropy(compared.prototypes, classes, reduction="none"), eventful),
            "margin": masked_mean(probability * far + (1 - probability) * near, counted),
        })  # fmt: skip

    def predict(self, batch: Batch) -> Scores:
        inputs = method_inputs(self, batch)
        fused = at_least_float32(self.fusion(inputs.visual, inputs.audio, inputs.mask).fused)
        remembered = self._remembered()
        logits = self._prototype_logits(fused, remembered, inputs.mask)
        if self.weak:
            both = logits.softmax(dim=-1) + self._class_logits(fused, inputs.mask).softmax(dim=-1)
            logits = (both / 2).log()
        nearest = distances(fused, remembered[logits.argmax(dim=-1)]).amin(dim=-1)
        return scores_of_heads((self.config.margin - nearest).sigmoid(), logits, None, self.num_classes)


def distances(segments: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances over sqrt(D): (B, T, D), (B, n, D) or (n, D) -> (B, T, n)."""
    others = others.expand(len(segments), *others.shape[-2:])
    return torch.cdist(segments, others, compute_mode="donot_use_mm_for_euclid_dist") / segments.shape[-1] ** 0.5


def clip_means(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of each clip's chosen segments, 0 without any: (B, T), (B, T) bool -> (B,)."""
    return torch.where(chosen, values, 0.0).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
