"""CPSP: Zhou, Guo, Wang, "Contrastive Positive Sample Propagation along the Audio-Visual Event Line", IEEE TPAMI 2022.

On AVE, VGG-19 + VGGish features. Its published percentages could not be verified, so no run is compared with them. Its code chooses the
epoch on validation, as we do.

PSP's body (:mod:`pipeline.methods.psp`), an event head on each segment and a class head on their mean, and three losses of positive
samples beside the heads' two: ``pair`` (PSP's, weight 100; a clip without an event asks for no similarity), ``video_activation`` (weight
1) between the clips of a batch, and ``segment_activation`` (weight 0.01) within a clip.

Deviations of the released code from the paper, and what we do:

* ``segment_activation: paper`` (default) is the paper's loss. In the released code its sums run over the wrong axis, so it is a constant
  without a gradient: ``none`` trains as released.
* ``video_activation`` in a batch with fewer clips of other classes than it averages: released, 1e12; here, as many as there are.
* Clips without an event: in the class loss they count as class 0, as released; in ``video_activation`` they are a class of their own
  (released: class 0).

Under weak supervision (PSP's weak body, by our reading): CMRAN's clip logits, with ``video_activation`` (margin 0.6, 4 clips).
``video_loss: soft_margin`` is the released loss on the softmax of the logits, nearly flat; the default is the cross-entropy of the same.
Released: 28 labels and no negative clips; here the class head has the background as one more label, so they may be used.

Linear layers start from Xavier-uniform weights, as PSP's. Not kept: parameters never used, and float64.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, one_hot

from pipeline.batch import Batch
from pipeline.layers.multiple_instance import VideoLoss
from pipeline.layers.pooling import mean_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.propagation import pair_similarity_loss
from pipeline.methods.base import METHODS, Progress, Recipe
from pipeline.methods.cpsp.activation import segment_activation, video_activation
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.propagation import PropagationConfig, PropagationMethod
from pipeline.methods.shared.two_heads import Heads, TwoHeadMethod
from pipeline.tasks.avel import AvelTargets
from pipeline.tasks.labels import VideoTargets


class CpspRecipe(Recipe):
    """Adam 1e-3, halved at epochs 10, 20 and 30 of 45, batches of 64, gradient norm at most 0.1."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(45, ge=1)
    milestones: tuple[int, ...] = (10, 20, 30)
    clip_norm: float | None = Field(0.1, gt=0)


class CpspConfig(PropagationConfig):
    """Defaults: the released network with the paper's losses; narrower widths suit small data."""

    weak_defaults: ClassVar = {
        "threshold": 0.095, "video_activation_margin": 0.6, "video_activation_negatives": 4, "recipe": {"milestones": (5, 20, 40)},
    }  # fmt: skip

    video_loss: Literal["cross_entropy", "soft_margin"] = Field("cross_entropy", description="weak supervision; soft_margin: as released")
    pair_weight: float = Field(100.0, ge=0, description="of the pair similarity loss (full supervision)")
    segment_activation: Literal["paper", "none"] = Field("paper", description="PSA_s, full supervision; none: as released")
    segment_activation_weight: float = Field(0.01, ge=0, description="of PSA_s")
    segment_activation_temperature: float = Field(0.6, ge=0.05, description="of PSA_s")
    video_activation_weight: float = Field(1.0, ge=0, description="of PSA_v")
    video_activation_margin: float = Field(0.2, ge=0, description="of PSA_v; weak supervision: 0.6")
    video_activation_negatives: int = Field(3, ge=1, description="clips of other classes that PSA_v averages; weak supervision: 4")
    recipe: CpspRecipe = CpspRecipe()


class Outputs(NamedTuple):
    """Both heads; the modalities after the propagation, (B, T, D) each."""

    heads: Heads
    visual: Tensor
    audio: Tensor


@METHODS.register("cpsp")
class Cpsp(PropagationMethod, TwoHeadMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 1,537,870; weakly supervised 1,243,343.
    """

    Config = CpspConfig
    config: CpspConfig

    def __init__(self, config: CpspConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.event_head = nn.Linear(self.width, 1)
        self.class_head = nn.Linear(self.width, self.clip_labels)
        self.start_xavier()

    @property
    def video_form(self) -> VideoLoss:
        return self.config.video_loss

    def _outputs(self, inputs: Inputs) -> Outputs:
        visual, audio, weights = self.propagated(inputs)
        fused = (visual + audio) / 2
        classes = at_least_float32(self.class_head(mean_over_time(fused, inputs.mask)))
        heads = Heads(at_least_float32(self.event_head(fused)).squeeze(-1), classes, weights)
        return Outputs(heads, at_least_float32(visual), at_least_float32(audio))

    def heads(self, inputs: Inputs) -> Heads:
        return self._outputs(inputs).heads

    def _video_activation(self, outputs: Outputs, inputs: Inputs, labels: Tensor, batch: Batch) -> Tensor:
        config, fused = self.config, (outputs.visual + outputs.audio) / 2
        known, labels = batch.mask.any(dim=1), labels.to(fused.dtype)
        return video_activation(fused, inputs.mask, labels, known, config.video_activation_margin, config.video_activation_negatives)

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` + ``class``, and by their weights ``pair``, ``video_activation`` and ``segment_activation`` (unless none).

        Means over valid segments, clips, or clips with an event.
        """
        inputs, config = method_inputs(self, batch), self.config
        outputs = self._outputs(inputs)
        event = targets.segments < self.num_classes
        terms = self.head_terms(outputs.heads, targets, batch.mask)
        terms["pair"] = pair_similarity_loss(cosine_similarity(outputs.visual, outputs.audio, dim=-1), event, batch.mask, even=False)
        terms["video_activation"] = self._video_activation(outputs, inputs, one_hot(targets.video, self.num_classes + 1), batch)
        total = terms["event"] + terms["class"] + config.pair_weight * terms["pair"]
        total = total + config.video_activation_weight * terms["video_activation"]
        if config.segment_activation == "paper":
            fused = (outputs.visual + outputs.audio) / 2
            terms["segment_activation"] = segment_activation(fused, event, batch.mask, config.segment_activation_temperature)
            total = total + config.segment_activation_weight * terms["segment_activation"]
        return {**terms, "total": total}

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video`` + video_activation_weight * ``video_activation``; means over clips."""
        inputs = method_inputs(self, batch)
        outputs = self._outputs(inputs)
        terms = {"video": self.video_term(outputs.heads, targets, inputs.mask, batch.mask)}
        terms["video_activation"] = self._video_activation(outputs, inputs, targets.labels, batch)
        return {**terms, "total": terms["video"] + self.config.video_activation_weight * terms["video_activation"]}
