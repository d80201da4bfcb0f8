"""DAM-style network for audio-visual event localization, supervised.

After Wu, Zhu, Yan, Yang, "Dual Attention Matching for Audio-Visual Event Localization", ICCV 2019: 74.5 % of AVE's segments with VGG-19 +
VGGish features. No code is public, and our notes lack widths, depth and schedule: what follows is a reading, and no result is the paper's.

From the paper, sentence by sentence of our notes:

* "Local features per segment of each modality": f^v from AVEL's audio-guided attention over the map, f^a from the audio vector; each
  Lin ReLU Lin (the layers are ours).
* "The event's segments gathered, self-attended, averaged = global feature": psi^v and psi^a, the mean of LN(f + MHA(f)) over the gathered
  segments (residual and norm are ours).
* "p_t = 1/2 [sigmoid(psi^a . f^v_t) + sigmoid(psi^v . f^a_t)], BCE to the event bit". Ours: the products are divided by sqrt(D).
* "A second self-attention over all segments for the class": c = Lin [mean_t LN(f^v + MHA'(f^v)); mean_t LN(f^a + MHA'(f^a))].
* "lambda = 0.5 between CE and BCE": ``class_weight``. The class counts on clips with an event.
* "Final label background where p_t < 0.5": the rule of two heads.

Which segments are gathered where the event is not known, as in test, is not in the notes. ``gather``:

* ``two_pass`` (default): a first pass gathers all valid segments; the second those that the first gives p_t >= 0.5 (all if none), taken as
  constants. The same in training and test; the event's loss is the mean of both passes.
* ``all``: the first pass alone.
* ``truth``: the event's segments in training, all of them in test, two different inputs.

The paper has no weak supervision, and so has none here.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from pipeline.batch import Batch, Tensors
from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, Method, MethodConfig, Progress, Recipe
from pipeline.methods.dam.event_vector import EventVector, Modality
from pipeline.methods.shared.inputs import Inputs, method_inputs, positions
from pipeline.methods.shared.two_heads import scores_of_heads
from pipeline.tasks.avel import AvelTargets, Scores


class DamLocalizationRecipe(Recipe):
    """Adam 1e-3, batches of 64, 100 epochs; our choice."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(100, ge=1)


class DamLocalizationConfig(MethodConfig):
    """All settings but the class weight are our choice."""

    gather: Literal["two_pass", "all", "truth"] = Field("two_pass", description="segments of the event vectors; truth: in training only")
    class_weight: float = Field(0.5, ge=0, le=1, description="lambda, share of the class loss")
    attention_width: int = Field(512, ge=1, description="hidden width of the audio-guided attention")
    width: int = Field(256, ge=1, description="D, of local features and of event vectors")
    heads: int = Field(4, ge=1, description="of the attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    recipe: DamLocalizationRecipe = DamLocalizationRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self

    @property
    def attends_to_positions(self) -> bool:
        return True


class LogOdds(NamedTuple):
    """log p and log (1 - p) of each segment, (B, T) each; exact where p saturates."""

    event: Tensor
    background: Tensor


class Features(NamedTuple):
    """f^v and f^a, (B, T, D) each; weights of the positions (B, T, S)."""

    visual: Tensor
    audio: Tensor
    attention: Tensor


@METHODS.register("dam_localization")
class DamLocalization(Method):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 1,743,949.
    """

    tasks = frozenset({"avel"})
    Config = DamLocalizationConfig
    config: DamLocalizationConfig

    def __init__(
        self, config: DamLocalizationConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, block = self.visual_shape[-1], self.audio_shape[0], (config.width, config.heads, config.dropout)
        self.attention = AudioGuidedSpatialAttention(visual, audio, positions(self.visual_shape), config.attention_width)
        self.visual, self.audio = Modality(visual, *block), Modality(audio, *block)
        self.visual_clip, self.audio_clip = EventVector(*block), EventVector(*block)
        self.class_head = nn.Linear(2 * config.width, num_classes)

    def _features(self, inputs: Inputs) -> Features:
        attended, weights = self.attention(inputs.visual, inputs.audio)
        return Features(self.visual.local(attended), self.audio.local(inputs.audio), weights)

    def _matched(self, features: Features, gathered: Tensor) -> LogOdds:
        """Match each modality's event vector, of the segments ``gathered`` (B, T), with the other's local features."""
        pairs = ((self.audio.event, features.audio, features.visual), (self.visual.event, features.visual, features.audio))
        logits = torch.stack([
            at_least_float32((local @ vector(known, gathered).unsqueeze(-1)).squeeze(-1)) / self.config.width**0.5
            for vector, known, local in pairs
        ])  # fmt: skip
        # The mean of two sigmoids, in logs.
        return LogOdds(*(logsigmoid(x).logsumexp(dim=0) - math.log(2) for x in (logits, -logits)))

    def _passes(self, features: Features, mask: Tensor, event: Tensor | None) -> list[LogOdds]:
        """What each pass says; ``event`` (B, T) bool, the truth that ``gather: truth`` trains with."""
        first = self._matched(features, mask if event is None else torch.where((event & mask).any(1, keepdim=True), event & mask, mask))
        if self.config.gather != "two_pass":
            return [first]
        likely = (first.event >= math.log(0.5)) & mask
        return [first, self._matched(features, torch.where(likely.any(dim=1, keepdim=True), likely, mask))]

    def _classes(self, features: Features, mask: Tensor) -> Tensor:
        clip = torch.cat([self.visual_clip(features.visual, mask), self.audio_clip(features.audio, mask)], dim=-1)
        return at_least_float32(self.class_head(clip))

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """(1 - class_weight) ``event`` + class_weight ``class``; means over valid segments, and over clips with an event."""
        if not isinstance(targets, AvelTargets):
            raise TypeError(f"dam_localization cannot train on {type(targets).__name__}")
        inputs = method_inputs(self, batch)
        features, event = self._features(inputs), targets.segments < self.num_classes
        passes = self._passes(features, inputs.mask, event if self.config.gather == "truth" else None)
        entropies = [masked_mean(-torch.where(event, odds.event, odds.background), batch.mask) for odds in passes]
        classes = self._classes(features, inputs.mask)
        eventful = (targets.video < self.num_classes) & batch.mask.any(dim=1)
        truth = targets.video.clamp(max=self.num_classes - 1)
        terms = {
            "event": torch.stack(entropies).mean(),
            "class": masked_mean(cross_entropy(classes, truth, reduction="none"), eventful),
        }
        share = self.config.class_weight
        return {**terms, "total": (1 - share) * terms["event"] + share * terms["class"]}

    def predict(self, batch: Batch) -> Scores:
        inputs = method_inputs(self, batch)
        features = self._features(inputs)
        event = self._passes(features, inputs.mask, None)[-1].event.exp()
        return scores_of_heads(event, self._classes(features, inputs.mask), features.attention, self.num_classes)
