"""CACE-Net: co-guidance attention and contrastive enhancement for audio-visual event localization.

He, Liu, Li, Zhao, Shen, Kong, Yang, Zeng, "CACE-Net: Co-guidance Attention and Contrastive Enhancement for Effective Audio-Visual Event
Localization", ACM MM 2024. Published on AVE, supervised, VGG-19 + VGGish features: 80.80 % of segments.

Audio and visual guide each other (AVCA, Eqs. 1-6); then come BiLSTMs, relations within and across modalities (CMRAN), gates that suppress
the background (CMBS), an interaction, a contrast of background and event within each clip (BECE, Eqs. 7-8), and two heads: event or
background per segment (Eq. 10), and one event class per clip (Eq. 11). A segment gets that class where its event probability exceeds 0.5.

``variant``: ``released`` (default; the published number comes from this code) differs from ``paper`` as follows.

* v^g: the map that guides the audio has a spatial self-attention of its own (paper: one for both directions), and all three
  self-attentions have dropout, residual and layer norm, with the norm shared by the visual ones (paper, Eq. 3: none of these).
* The contrast loss and Eq. 8's F_o start after an eighth of the epochs (paper: not stated, so from the start).
* Class logits are those of Eq. 11 plus gamma times the per-modality scores ``av`` (paper: Eq. 11 alone).
* A clip without an event counts as class 0 in the class terms (paper: undefined; here such a clip is left out of them).

``gate_loss``: released ("faithful") is binary cross-entropy *with logits* on a gate that is already a product of sigmoids: a double
sigmoid, inherited from CMBS, whose term lies in [0.313, 1.313] and never below log 2 on background. "corrected" (default) is
binary cross-entropy on the product itself. Network and inference are the same for both.

Kept as released in both variants: all attention of AVCA unscaled, no positional encoding, INTER sequential, one encoder for queries
and keys, no stop-gradient in the contrast, F_o with the unnormalised encoder output. Not kept: modules that are registered but never
called (29 % of the released 13.12 M parameters), and the noise drawn in evaluation, which only changed the random state.

Weak supervision is ours, after CMRAN and CMBS; the paper does not have it, and the released class fails at construction. Both clip-level
heads have the background as one more label. The clip's logits are max_t(sigmoid(event_t) r), with r the class logits. Cross-entropy with
the clip's label replaces ``event`` and ``class``, and the same on the per-modality scores replaces ``modality_class``. The gates have no
loss of their own, and BECE contrasts the segments marked by the event head with the others.

Audio of another width than ``audio_hidden``, on which the released code cannot run, is projected: ReLU(Lin(D_a -> audio_hidden)).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.background_suppression import GateLoss
from pipeline.layers.co_guidance import CoGuidance, Guidance
from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.pooling import max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.layers.relation import BimodalRelation
from pipeline.methods.base import METHODS, Progress
from pipeline.methods.cace_net.contrast import Augmentation, augmented_twin, background_event_contrast
from pipeline.methods.cace_net.spiking import SpikingSegments
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.localization import LocalizationMethod
from pipeline.methods.shared.suppression import Outputs, SuppressionConfig, clip_terms, segment_terms, supposed_events, suppression_of
from pipeline.methods.shared.two_heads import scores_of_heads
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets

CONTRAST_START = 1 / 8  # share of the epochs before the contrast starts, in the released code


class CaceNetConfig(SuppressionConfig):
    """Defaults: the paper's network and weights, plus those of :class:`SuppressionConfig`; narrower widths suit small data.

    ``guidance`` names the guiding modality (paper's Table 1, whose line labels and prose disagree): ``none`` "w/o AVCA" 78.26 (map's mean,
    audio unchanged); ``audio`` guides visual, line "AVCA-Visual-only" 78.83, released "Audio-Guide"; ``visual`` guides audio, line
    "AVCA-Audio-only" 77.23, released "Visual-Guide"; ``both`` 80.30 without and 80.80 with contrast.
    """

    variant: Literal["released", "paper"] = Field("released", description="released code or paper; the file's head lists the differences")
    gate_loss: GateLoss = Field("corrected", description="faithful: the released double sigmoid")
    guidance: Guidance = Field("both", description="modality that guides, Table 1: none 78.26, audio 78.83, visual 77.23, both 80.80")
    temporal: Literal["bilstm", "lstm", "snn", "none"] = Field("bilstm", description="Table S1: 80.80 | 77.04 | 77.11 | 76.39")
    spiking_steps: int = Field(15, ge=1, description="simulation steps of the LIF neurons per segment, Table S1 (temporal: snn)")
    spiking_time_constant: float = Field(15.0, gt=0, description="of the leak, in steps; not in the paper, we use a segment's length")
    contrast: bool = Field(True, description="BECE; off: Table 1's 80.30")
    lambda_contrast: float = Field(
        0.6, ge=0, description="lambda of Eq. 8, F_o = F_av + lambda F_FT, Table 2: no loss weight, that is contrast_weight"
    )
    enhanced_heads: Literal["event", "both"] = Field("event", description="heads that see F_o: 80.80 | both (Table 2's *): 80.65")
    contrast_weight: float = Field(1.0, ge=0, description="of the contrast term in the total (lambda_1 of Table S4b)")
    contrast_temperature: float = Field(0.01, ge=1e-4, le=1000, description="tau of Eq. 7; not in the paper")
    augmentation: Augmentation = Field("noise", description="of the twins, Table S4a: 80.80 | channel_mask 79.20 | mixup 78.36")
    contrast_noise: float = Field(0.1, ge=0, description="sigma of the noise, Table S4a")
    contrast_mask: float = Field(0.1, gt=0, lt=1, description="share of the channels masked (augmentation: channel_mask); not in the paper")
    contrast_mixup: float = Field(0.1, gt=0, description="weight of the other clip (augmentation: mixup); not in the paper, as released")
    psi: float = Field(0.3, ge=0, description="visual guidance of the audio, Eq. 6")
    cross_feedforward: int = Field(512, ge=1)

    @property
    def attends_to_positions(self) -> bool:
        return self.guidance != "none"


def temporal_encoder(config: CaceNetConfig, input_width: int, output_width: int) -> SegmentLSTM | SpikingSegments | None:
    """Build one modality's temporal encoder (Table S1)."""
    if config.temporal == "snn":
        return SpikingSegments(input_width, output_width, config.spiking_steps, config.spiking_time_constant)
    return None if config.temporal == "none" else SegmentLSTM(input_width, output_width, bidirectional=config.temporal == "bilstm")


@METHODS.register("cace_net")
class CaceNet(LocalizationMethod):
    """The whole network; every registered parameter is used: 9,283,417 at 7x7x512 / 128, C = 28.

    The buffer ``contrast_active`` records whether F_o is switched on. It is part of the state_dict, so a checkpoint predicts as it did in
    training.
    """

    Config = CaceNetConfig
    config: CaceNetConfig
    contrast_active: Tensor

    def __init__(self, config: CaceNetConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width = config.visual_hidden, config.audio_hidden, config.width
        self.visual_input = nn.Sequential(nn.Linear(self.visual_shape[-1], visual), nn.ReLU(), MapDropout(config.input_dropout))
        raw = self.audio_shape == (audio,)
        self.audio_input: nn.Module = nn.Identity() if raw else nn.Sequential(nn.Linear(self.audio_shape[0], audio), nn.ReLU())
        self.guidance = CoGuidance(
            visual, audio, hidden=width, attention_width=config.attention_width, guidance=config.guidance,
            released=config.variant == "released", beta=config.beta, psi=config.psi, dropout=config.input_dropout,
        )  # fmt: skip
        self.visual_temporal = temporal_encoder(config, visual, visual)
        self.audio_temporal = temporal_encoder(config, audio, 2 * audio)
        if self.audio_temporal is not None:
            audio = 2 * audio
        self.relation = BimodalRelation(
            visual, audio, width, config.heads, config.intra_feedforward, config.cross_feedforward, config.dropout
        )  # fmt: skip
        self.suppression = suppression_of(config, self.clip_labels, config.heads)
        self.contrast_encoder = nn.Sequential(nn.Linear(width, width), nn.ReLU()) if config.contrast else None
        self.event_head = nn.Linear(width, 1)
        self.class_head = nn.Linear(width, self.clip_labels)
        self.register_buffer("contrast_active", torch.tensor(False))

    def _features(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor | None]:
        """Guided and temporally encoded features: visual (B, T, D), audio (B, T, D_a), attention weights (B, T, S) or None."""
        visual, audio, weights = self.guidance(self.visual_input(inputs.visual), self.audio_input(inputs.audio), inputs.mask)
        if self.visual_temporal is not None and self.audio_temporal is not None:
            visual, audio = self.visual_temporal(visual, inputs.lengths), self.audio_temporal(audio, inputs.lengths)
        return visual, audio, weights

    def _outputs(self, inputs: Inputs, contrast_active: bool) -> Outputs:
        """Everything up to the logits: Eqs. 8, 10 and 11 before their sigmoid and softmax."""
        mask, config = inputs.mask, self.config
        visual, audio, weights = self._features(inputs)
        fused, modality_logits, audio_gate, visual_gate = self.suppression(self.relation(visual, audio, mask), mask)
        enhanced = fused
        if self.contrast_encoder is not None and contrast_active:
            enhanced = fused + config.lambda_contrast * self.contrast_encoder(fused)
        event_logits = at_least_float32(self.event_head(enhanced)).squeeze(-1)
        of_clip = max_over_time(enhanced if config.enhanced_heads == "both" else fused, mask)
        class_logits = at_least_float32(self.class_head(of_clip))
        if config.variant == "released":
            class_logits = class_logits + config.gamma * modality_logits
        return Outputs(fused, modality_logits, audio_gate, visual_gate, event_logits, class_logits, weights)

    def phase(self, progress: Progress) -> bool:
        """Whether F_o and the contrast have started."""
        start = CONTRAST_START * progress.epochs if self.config.variant == "released" else 0
        return progress.epoch >= start

    def _switch_contrast(self, progress: Progress) -> bool:
        """Whether F_o is active: set the buffer from the progress in training, read it in evaluation."""
        if not self.training:
            return bool(self.contrast_active)
        active = self.phase(progress)
        self.contrast_active.fill_(active)
        return active

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """Eq. 12: ``event`` + ``class`` + ``gate`` + ``modality_class`` (the last two are L_sup) + contrast_weight * ``contrast``.

        Each is a mean over valid segments or over clips; ``contrast`` is 0 until switched on, and absent with ``contrast: false``.
        """
        active = self._switch_contrast(progress)
        outputs = self._outputs(method_inputs(self, batch), active)
        event = targets.segments < self.num_classes
        known = batch.mask.any(dim=1)
        if self.config.variant == "paper":
            known = known & (targets.video < self.num_classes)
        terms = segment_terms(outputs, event, targets.video, batch.mask, known, self.config.gate_loss)
        return self._with_contrast(terms, outputs.fused, event, batch.mask, active)

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video`` + ``modality_video`` + contrast_weight * ``contrast``; means over clips.

        There are no segment labels, so ``contrast`` takes as events the segments marked by the event head, in clips labelled with an event.
        """
        inputs = method_inputs(self, batch)
        active = self._switch_contrast(progress)
        outputs = self._outputs(inputs, active)
        labels = targets.labels.to(outputs.event_logits.dtype)
        terms = clip_terms(outputs, labels, inputs.mask, batch.mask.any(dim=1))
        supposed = supposed_events(outputs.event_logits, labels)
        return self._with_contrast(terms, outputs.fused, supposed, batch.mask, active)

    def _with_contrast(self, terms: dict[str, Tensor], fused: Tensor, event: Tensor, mask: Tensor, active: bool) -> dict[str, Tensor]:
        """Add the contrast term and the ``total``."""
        total = torch.stack(list(terms.values())).sum()
        if self.contrast_encoder is not None:
            terms["contrast"] = self._contrast(fused, event, mask) if active else torch.zeros_like(total)
            total = total + self.config.contrast_weight * terms["contrast"]
        return {**terms, "total": total}

    def _contrast(self, fused: Tensor, event: Tensor, mask: Tensor) -> Tensor:
        """Eq. 7 between encoded segments and their augmented twins."""
        assert self.contrast_encoder is not None
        config = self.config
        strength = {"noise": config.contrast_noise, "channel_mask": config.contrast_mask, "mixup": config.contrast_mixup}
        twins = augmented_twin(fused, mask, config.augmentation, strength[config.augmentation])
        return background_event_contrast(
            self.contrast_encoder(fused), self.contrast_encoder(twins), event, mask, config.contrast_temperature
        )

    def predict(self, batch: Batch) -> Scores:
        outputs = self._outputs(method_inputs(self, batch), bool(self.contrast_active))
        return scores_of_heads(outputs.event_logits.sigmoid(), outputs.class_logits, outputs.attention, self.num_classes)
