"""CCLN-style network for audio-visual event localization, designed from the paper's abstract.

After Sun, Chen, Zhu, Zhang, Lu, Chen, "Listen With Seeing: Cross-Modal Contrastive Learning for Audio-Visual Event Localization", IEEE TMM
2025. Only its abstract is public: no equation, no number, no code. The design is ours, and no result of this method is the paper's. The
abstract's sentences, and how we read them:

* "a novel Cross-modal Contrastive Learning Network (CCLN) for AVEL, comprising a backbone network and a branch network": the backbone
  localizes; the branch projects both modalities, before they interact, to one space; it has a loss but no part in inference.
* "In the backbone network ... we elucidate the process of audio-visual information fusion, interaction, and integration from an
  information-flow perspective": fusion is the signal f in SBI, interaction is SBI, integration is CMBS's, where each modality's gate raises
  the other's segments before both are merged. Before them come CMBS's audio-guided attention, BiLSTMs, and self-attention within each
  modality.
* "the Self-constrained Bi-modal Interaction (SBI) module is a bi-modal attention structure integrated with audio-visual fusion
  information, and through gated processing of the audio-visual correlation matrix, it effectively captures inter-modal correlation":
  :class:`pipeline.methods.ccln.self_constrained_interaction.SelfConstrainedInteraction` replaces CMBS's cross-modal relation. "New noise is
  introduced during the audio-visual fusion process": the gate can keep this noise out. ``interaction``: gated, plain, none.
* "The Foreground Event Enhancement (FEE) module emphasizes the significance of event-level boundaries by elongating the distance between
  scene events during training through adaptive weights": a loss between event and background segments of a clip, on the merged features,
  :func:`pipeline.methods.ccln.foreground_enhancement.foreground_enhancement`. ``foreground_enhancement: false`` leaves it out.
* "we introduce weak video-level labels to constrain the cross-modal semantic alignment of audio-visual events and design a weakly
  supervised cross-modal contrastive learning loss (WCCL Loss) function, which enhances the quality of fusion representation in the
  dual-branch contrastive learning framework": :func:`pipeline.methods.ccln.video_contrast.video_contrast` on the branch. A clip's embedding
  is the mean of its segments' embeddings, weighted by event probability (without gradient), because events are to be aligned. The loss
  shapes the features that SBI and the merging use. ``contrast: false`` leaves branch and loss out.
* "for both fully supervised and weakly supervised event localization": under full supervision the losses of CMBS's heads are kept, with the
  gates' loss in its corrected form. Under weak supervision both clip-level heads have the background as one more label, the clip's logits
  are max_t(sigmoid(event_t) r), with r the class logits, and FEE takes as events the segments marked by the event head. WCCL is the same
  in both.
* "as well as Cross-Modal Localization (CML) tasks": a network of its own, :mod:`pipeline.methods.ccln.matching`.

Widths and schedule are CMBS's; margin, temperatures and weights of FEE and WCCL are ours and were not tuned.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from pipeline.batch import Batch
from pipeline.layers.background_suppression import Suppressed
from pipeline.layers.co_guidance import CoGuidance
from pipeline.layers.map_dropout import MapDropout
from pipeline.layers.pooling import max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.layers.relation import IntraModalRelation, Related
from pipeline.methods.base import METHODS, Progress
from pipeline.methods.ccln.foreground_enhancement import foreground_enhancement
from pipeline.methods.ccln.self_constrained_interaction import SelfConstrainedInteraction
from pipeline.methods.ccln.video_contrast import video_contrast
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.localization import LocalizationMethod
from pipeline.methods.shared.suppression import Outputs, SuppressionConfig, clip_terms, segment_terms, supposed_events, suppression_of
from pipeline.methods.shared.two_heads import scores_of_heads
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.labels import VideoTargets

Embeddings = tuple[Tensor, Tensor]  # visual and audio embeddings of clips, (B, D) each


class CclnConfig(SuppressionConfig):
    """Settings; ``interaction``, ``foreground_enhancement`` and ``contrast`` switch off the abstract's three modules one by one."""

    interaction: Literal["gated", "plain", "none"] = Field("gated", description="SBI | SBI without its gate | no interaction")
    foreground_enhancement: bool = Field(True, description="FEE")
    foreground_weight: float = Field(0.5, ge=0, description="of FEE in the total")
    foreground_margin: float = Field(1.0, gt=0, le=2, description="target cosine distance between event and background")
    foreground_temperature: float = Field(0.2, ge=1e-4, le=1000, description="smaller values put more weight on similar pairs")
    foreground_reach: float = Field(2.0, gt=0, description="distance from a boundary, in segments, at which a pair weighs 1/e")
    contrast: bool = Field(True, description="the branch network and WCCL")
    contrast_weight: float = Field(0.5, ge=0, description="of WCCL in the total")
    contrast_temperature: float = Field(0.1, ge=1e-4, le=1000, description="tau of WCCL")
    contrast_width: int = Field(128, ge=1, description="of the branch's embeddings")


class Branch(nn.Module):
    """The branch network: Lin ReLU Lin on each modality's segments, then a mean weighted by event probability."""

    def __init__(self, width: int, output: int) -> None:
        super().__init__()
        self.visual, self.audio = (nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, output)) for _ in range(2))

    def forward(self, visual: Tensor, audio: Tensor, event: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of the clips.

        Args:
            visual, audio: (B, T, width) each.
            event: logits, (B, T).
            mask: (B, T), bool, with at least one True per clip.

        Returns:
            visual, audio: (B, output) each.
        """
        # softmax(log p) = p / sum(p), even where every p underflows.
        weights = logsigmoid(event).masked_fill(~mask, float("-inf")).softmax(dim=-1).unsqueeze(-1)
        visual, audio = at_least_float32(self.visual(visual)), at_least_float32(self.audio(audio))
        return (weights * visual).sum(dim=1), (weights * audio).sum(dim=1)


@METHODS.register("ccln")
class Ccln(LocalizationMethod):
    """Backbone, branch and two heads; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 9,200,473 (by coincidence as many as CMBS: the branch costs what SBI saves); weakly supervised
    9,201,244.
    """

    Config = CclnConfig
    config: CclnConfig

    def __init__(self, config: CclnConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width = config.visual_hidden, 2 * config.audio_hidden, config.width
        self.visual_input = nn.Sequential(nn.Linear(self.visual_shape[-1], visual), nn.ReLU(), MapDropout(config.input_dropout))
        self.guidance = CoGuidance(
            visual, self.audio_shape[0], hidden=width, attention_width=config.attention_width, guidance="audio", released=True,
            beta=config.beta, psi=0.0, dropout=config.input_dropout,
        )  # fmt: skip
        self.visual_lstm, self.audio_lstm = SegmentLSTM(visual, visual), SegmentLSTM(self.audio_shape[0], audio)
        self.visual_intra = IntraModalRelation(visual, width, config.heads, config.intra_feedforward, dropout=config.dropout)
        self.audio_intra = IntraModalRelation(audio, width, config.heads, config.intra_feedforward, dropout=config.dropout)
        self.interaction: SelfConstrainedInteraction | None = None
        if config.interaction != "none":
            gated = config.interaction == "gated"
            self.interaction = SelfConstrainedInteraction(width, config.cross_feedforward, config.dropout, gated)
        self.suppression = suppression_of(config, self.clip_labels, config.heads)
        self.event_head = nn.Linear(width, 1)
        self.class_head = nn.Linear(width, self.clip_labels)
        self.branch = Branch(width, config.contrast_width) if config.contrast else None

    def _related(self, inputs: Inputs) -> tuple[Related, Tensor | None]:
        """Both modalities after and before the interaction, and the weights of the positions (B, T, S)."""
        mask = inputs.mask
        visual, audio, weights = self.guidance(self.visual_input(inputs.visual), inputs.audio, mask)
        own_visual = self.visual_intra(self.visual_lstm(visual, inputs.lengths), mask)
        own_audio = self.audio_intra(self.audio_lstm(audio, inputs.lengths), mask)
        visual, audio = own_visual, own_audio
        if self.interaction is not None:
            visual, audio = self.interaction(visual, audio, mask)
        return Related(visual, audio, own_visual, own_audio), weights

    def _outputs(self, inputs: Inputs) -> tuple[Outputs, Embeddings | None]:
        related, weights = self._related(inputs)
        suppressed: Suppressed = self.suppression(related, inputs.mask)
        event = at_least_float32(self.event_head(suppressed.fused)).squeeze(-1)
        classes = at_least_float32(self.class_head(max_over_time(suppressed.fused, inputs.mask)))
        classes = classes + self.config.gamma * suppressed.modality_logits
        embeddings = None
        if self.branch is not None:
            embeddings = self.branch(related.visual_memory, related.audio_memory, event.detach(), inputs.mask)
        return Outputs(*suppressed, event, classes, weights), embeddings

    def losses_of_segments(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """``event`` + ``class`` + ``gate`` + ``modality_class`` + foreground_weight * ``foreground`` + contrast_weight * ``contrast``.

        Each is a mean over valid segments or over clips; the last two are absent when switched off.
        """
        outputs, embeddings = self._outputs(method_inputs(self, batch))
        event, known = targets.segments < self.num_classes, batch.mask.any(dim=1)
        terms = segment_terms(outputs, event, targets.video, batch.mask, known, "corrected")
        labels = one_hot(targets.video, self.num_classes + 1)[:, :-1]
        return self._with_modules(terms, outputs.fused, embeddings, event, labels, batch.mask)

    def losses_of_videos(self, batch: Batch, targets: VideoTargets, progress: Progress) -> dict[str, Tensor]:
        """``video`` + ``modality_video`` + foreground_weight * ``foreground`` + contrast_weight * ``contrast``; means over clips.

        There are no segment labels, so ``foreground`` takes as events the segments marked by the event head, in clips labelled with an
        event.
        """
        inputs = method_inputs(self, batch)
        outputs, embeddings = self._outputs(inputs)
        labels = targets.labels.to(outputs.event_logits.dtype)
        terms = clip_terms(outputs, labels, inputs.mask, batch.mask.any(dim=1))
        supposed = supposed_events(outputs.event_logits, labels)
        return self._with_modules(terms, outputs.fused, embeddings, supposed, labels[:, :-1], batch.mask)

    def _with_modules(
        self, terms: dict[str, Tensor], fused: Tensor, embeddings: Embeddings | None, event: Tensor, labels: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:  # fmt: skip
        """Add the terms of FEE and WCCL and the ``total``; ``event`` (B, T) bool, ``labels`` (B, C)."""
        config, total = self.config, torch.stack(list(terms.values())).sum()
        if config.foreground_enhancement:
            terms["foreground"] = foreground_enhancement(
                fused, event, mask, margin=config.foreground_margin, temperature=config.foreground_temperature,
                reach=config.foreground_reach,
            )  # fmt: skip
            total = total + config.foreground_weight * terms["foreground"]
        if embeddings is not None:
            terms["contrast"] = video_contrast(*embeddings, labels, mask.any(dim=1), config.contrast_temperature)
            total = total + config.contrast_weight * terms["contrast"]
        return {**terms, "total": total}

    def predict(self, batch: Batch) -> Scores:
        outputs, _ = self._outputs(method_inputs(self, batch))
        return scores_of_heads(outputs.event_logits.sigmoid(), outputs.class_logits, outputs.attention, self.num_classes)
