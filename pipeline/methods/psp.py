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

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from pipeline.batch import Batch
from pipeline.layers.multiple_instance import video_loss
from pipeline.layers.pooling import masked_mean, mean_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.propagation import pair_similarity_loss
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.propagation import PropagationConfig, PropagationMethod
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets


class PspRecipe(Recipe):
    """Adam 1e-3, times 0.8 after epochs 60 and 120 of 300 (weak: 80 and 160), batches of 128."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(300, ge=1)
    milestones: tuple[int, ...] = (60, 120)
    decay: float = Field(0.8, gt=0, le=1)


class PspConfig(PropagationConfig):
    """Defaults: the released network; narrower widths suit small data."""

    weak_defaults: ClassVar = {"threshold": 0.095, "recipe": {"milestones": (80, 160)}}

    pair_weight: float = Field(100.0, ge=0, description="of the pair similarity loss (full supervision)")
    recipe: PspRecipe = PspRecipe()


@METHODS.register("psp")
class Psp(PropagationMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 1,548,657 (released 1,667,251 minus 118,594 never used); weakly supervised 1,253,902 (1,254,251
    minus 349).
    """

    Config = PspConfig
    config: PspConfig

    def __init__(self, config: PspConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.add_classifier()
        self.start_xavier()

    def _logits(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Segment logits (B, T, C+1), cosine similarity of the modalities (B, T), weights of the positions (B, T, S)."""
        visual, audio, weights = self.propagated(inputs)
        similarity = cosine_similarity(at_least_float32(visual), at_least_float32(audio), dim=-1)
        return self.segment_logits((visual + audio) / 2), similarity, at_least_float32(weights)

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
