"""DAM-style matching for cross-modality localization.

After Wu, Zhu, Yan, Yang, "Dual Attention Matching for Audio-Visual Event Localization", ICCV 2019. No code is public, and our notes lack
the widths: layers, widths and schedule are ours, and no result is the paper's.

From the paper: self-attention within the given window, averaged over time, gives one event vector psi. For local features f_t of the other
modality, p_t = sigmoid(<psi, f_t>) is the probability that segment t belongs to the event; trained by binary cross-entropy with the event's
segments.

Ours:

* <psi, f_t> is divided by sqrt(D).
* The loss is computed per direction and averaged (paper: loss of the mean of both p_t, which needs both windows).
* A map enters as its mean, because its attention would need the other modality, which is not given.
* A window's score is the sum of the logits of p_t over its segments: the likeliest window if segments are independent.

In training the window is the clip's event; clips without an event do not contribute.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pipeline.batch import Batch
from pipeline.layers.matching import sums_over_windows, windows
from pipeline.layers.pooling import masked_mean
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, MethodConfig, Recipe
from pipeline.methods.dam.event_vector import Modality
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.matching import MatchingMethod
from pipeline.tasks.cml import MatchingScores, MatchingTargets


class DamRecipe(Recipe):
    """Adam 1e-3, batches of 64, 60 epochs; our choice."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(60, ge=1)


class DamConfig(MethodConfig):
    """All settings are our choice."""

    width: int = Field(128, ge=1, description="of local features and of the event vector")
    heads: int = Field(4, ge=1, description="of the attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the attention blocks")
    recipe: DamRecipe = DamRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self


@METHODS.register("dam")
class Dam(MatchingMethod):
    """Match the event vector of one modality with the local features of the other."""

    Config = DamConfig
    config: DamConfig

    def __init__(self, config: DamConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.visual, self.audio = (
            Modality(width, config.width, config.heads, config.dropout) for width in (self.visual_shape[-1], self.audio_shape[0])
        )

    def _local(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Local features f_v and f_a, (B, T, D) each."""
        return self.visual.local(inputs.visual.mean(dim=-2)), self.audio.local(inputs.audio)

    def _logits(self, given: Modality, known: Tensor, window: Tensor, searched: Tensor) -> Tensor:
        """Logits of p_t.

        Args:
            given: modules of the given modality.
            known: local features of the given modality, (N, T, D).
            window: window in the given modality, (N, T), bool.
            searched: local features of the other modality, (N, T, D).

        Returns:
            (N, T).
        """
        vector = given.event(known, window)
        return at_least_float32((searched @ vector.unsqueeze(-1)).squeeze(-1)) / self.config.width**0.5

    def losses_of_matches(self, batch: Batch, targets: MatchingTargets) -> dict[str, Tensor]:
        """(``a2v`` + ``v2a``) / 2; each a mean over the valid segments of clips with an event."""
        inputs = method_inputs(self, batch)
        visual, audio = self._local(inputs)
        event = targets.event & batch.mask
        counted = batch.mask & event.any(dim=1, keepdim=True)
        terms = {}
        for name, given, known, searched in (("a2v", self.audio, audio, visual), ("v2a", self.visual, visual, audio)):
            logits = self._logits(given, known, event, searched)
            terms[name] = masked_mean(binary_cross_entropy_with_logits(logits, event.to(logits.dtype), reduction="none"), counted)
        return {**terms, "total": torch.stack(list(terms.values())).mean()}

    def predict(self, batch: Batch) -> MatchingScores:
        visual, audio = self._local(method_inputs(self, batch))
        return MatchingScores(self._all_windows(self.audio, audio, visual), self._all_windows(self.visual, visual, audio))

    def _all_windows(self, given: Modality, known: Tensor, searched: Tensor) -> Tensor:
        """Score of every window of the given modality with every window of the other: (B, L, T, T)."""
        clips, segments, width = known.shape
        window = windows(segments, known.device).flatten(0, 1)  # (L*T, T)
        count = len(window)
        each, other = (x.unsqueeze(1).expand(-1, count, -1, -1).reshape(-1, segments, width) for x in (known, searched))
        logits = self._logits(given, each, window.repeat(clips, 1), other)
        return sums_over_windows(logits.view(clips, segments, segments, segments))
