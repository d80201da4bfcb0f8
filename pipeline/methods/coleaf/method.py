"""CoLeaF: an Anchor parsing method trained beside two Reference branches.

Sardari, Mustafa, Jackson, Hilton, "CoLeaF: A Contrastive-Collaborative Learning Framework for Weakly Supervised Audio-Visual Video
Parsing", ECCV 2024. Any parsing method with tokens can be the Anchor (``anchor``). Each Reference sees one modality and, through class
tokens, which classes occur together. Only the Anchor is saved and predicts, at its usual cost.

Published on LLP, segment level: A 63.5, Ao 49.3, V 64.5, Vo 62.4, AV 58.6, Type@AV 62.1, Type@AVo 56.7, Event@AV 61.8, Event@AVo 37.7;
event level: 56.2, 44.1, 62.0, 62.2, 52.1, 56.7, 52.7, 54.5, 33.4. Answering *nothing* scores Vo 65.6.

``variant: released`` (default; the published numbers come from this code) trains in three steps per batch, ``paper`` in one, by the
equations. The two differ as follows:

1. Epochs: released 10, paper 15. The paper's learning rate is not legible in the copy at hand; both use the code's.
2. Loss of the References: released an asymmetric sum over the batch, on smoothed and denoised targets; paper cross-entropy with the labels.
3. Class tokens' loss: released 1.2 (audio), 1.0 (visual) times the sum for three epochs, then 0.001 and 0; paper ``token_weight``.
4. Pooling a class token over its channels after a layer norm gives 1/2 for every class and no gradient, so the released tokens are only
   attention slots. Paper uses a separate linear layer for each class token here (``token_head``), so they can learn.
5. Self-modality distillation (Eq. 12): released from the fourth epoch, on pseudo-labels times the targets of item 2; paper always, without
   these targets.
6. Event-aware contrast (Eq. 8): released with Reference queries and Anchor candidates, the logarithm of a smoothed mixture, weights 0.009
   and 1.0, from the second epoch; paper as printed (:func:`.collaborative_losses.event_aware_contrast`), weights 1. In both, tokens have
   unit length and the Reference is the teacher, without a gradient.
7. Eqs. 9-11: released from a pass of the updated References in train mode, without a gradient; paper from the pass that trains them.
8. Co-occurrence distillation (Eq. 13): released a sum times B / C and 1e-4, from the second epoch, with the Anchor itself as target where
   the Reference is unsure, weighted by the targets of item 2 (positive labels fully, others almost not); paper the mean square, weight 1.
9. Not in the paper: label denoising, contrast of the two streams, mutual loss, fusion of two passes, thresholds. In both variants they are
   the Anchor's own; HAN does not have them. Released weights the Anchor's losses 2, 1, 2.
10. Released alternates three Adams; the same as one Adam over three steps that leaves parameters without a gradient unchanged.
11. "Selected thresholds" have no released code: ``thresholds: selected`` selects them as for CMPAE, with the kept weights.
12. HAN as Anchor has no released code: it is trained like CMPAE, with its own losses. Neither do UnAV-100 and the labels made with CLIP and
   CLAP; for the latter, see ``pseudo_labels`` and :meth:`ParsingMethod.told` (as printed, the References still learn the clip labels).
13. The released report's second AV equals the first, as it must.

Not taken over: the Anchor's class tokens, never used, and the random numbers drawn with them; the References' unused attention to the other
modality. The Anchor's pass for pseudo-labels is skipped while nothing uses it, which changes the random numbers of dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.layers.parsing_losses import binary_loss
from pipeline.methods.base import METHODS, Method, Progress
from pipeline.methods.coleaf.class_tokens import References, Referred
from pipeline.methods.coleaf.collaborative_losses import (
    asymmetric_loss,
    co_occurrence_loss,
    confidence,
    event_aware_contrast,
    reversed_contrast,
    trusted_co_occurrence_loss,
    unaligned_shares,
)  # fmt: skip
from pipeline.methods.coleaf.config import ColeafConfig
from pipeline.methods.shared.anchor import Anchored, AnchorMethod, AnchorTargets, weighted_sum
from pipeline.methods.shared.parsing import ParsingInputs, ParsingMethod
from pipeline.methods.shared.tuning import Fusion
from pipeline.tasks.avvp import MODALITIES, ParsingScores

EARLY_EPOCHS = 3  # released: epochs in which the References learn from the labels only
TOKENS_EARLY, TOKENS_LATE = {"audio": 1.2, "visual": 1.0}, {"audio": 0.001, "visual": 0.0}  # released: weights of the class tokens' loss
REFERENCE_LATE = 0.5  # released: weight of the References' loss after those epochs
TRUSTED = {"audio": (0.8, 0.1), "visual": (0.6, 0.4)}  # released: a Reference is sure of a class from high on, of its absence up to low


class Taught(NamedTuple):
    """A batch with everything needed to compute its losses.

    batch: the batch itself.
    referred, anchored: inputs of the References and of the Anchor.
    mask: valid segments, (B, T), bool.
    counted: clips that count, (B,), bool.
    targets: what the networks learn.
    progress: position in training.
    """

    batch: Batch
    referred: ParsingInputs
    anchored: ParsingInputs
    mask: Tensor
    counted: Tensor
    targets: AnchorTargets
    progress: Progress


@METHODS.register("coleaf")
class Coleaf(ParsingMethod):
    """An Anchor and, during training, two Reference branches (:class:`pipeline.methods.coleaf.class_tokens.References`)."""

    Config = ColeafConfig
    config: ColeafConfig

    def __init__(
        self, config: ColeafConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        anchor_class: type[Any] = METHODS.get(config.anchor)
        self.anchor: AnchorMethod = anchor_class(config.anchor_config, visual_shape, audio_shape, num_classes, other_shapes)
        self.references: References | None = References(
            self.visual_shape[-1], self.audio_shape[0], self.motion_width, self.anchor.token_width, num_classes, config.token_head,
            config.feedforward, config.dropout, config.head_dropout,
        )  # fmt: skip

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Tensors]]]) -> None:
        self.anchor.prepare(first, batches)

    def kept_weights(self) -> dict[str, Tensor]:
        """All weights except the References'."""
        return {name: weight for name, weight in self.state_dict().items() if not name.startswith("references.")}

    def load_kept(self, weights: Mapping[str, Tensor]) -> None:
        self.references = None
        self.load_state_dict(weights)

    def predict(self, batch: Batch) -> ParsingScores:
        scores = self.anchor.predict(batch)
        for position, threshold in enumerate((self.config.segment_threshold, self.config.clip_threshold)):
            if threshold is not None:
                scores.thresholds = scores.thresholds.clone()
                scores.thresholds[:, :, position] = threshold
        scores.thresholds = self.with_selected(scores.thresholds)
        return scores

    def fusions(self, scores: ParsingScores) -> Iterator[Fusion]:
        """The Anchor's."""
        for buffers, fused in self.anchor.fusions(scores):
            yield {f"anchor.{name}": value for name, value in buffers.items()}, fused

    def phase(self, progress: Progress) -> Hashable:
        """The Anchor's, and how far the released schedule of the losses has come."""
        return self.anchor.phase(progress), progress.epoch > 0, progress.epoch >= EARLY_EPOCHS

    def steps(self, batch: Batch, targets: Tensors, progress: Progress) -> Iterator[dict[str, Tensor]]:
        return self._steps(batch, self.labels(targets), batch.mask.any(dim=1), progress)

    def losses_of_clips(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The terms of all steps, summed by name, without optimizer steps in between."""
        merged: dict[str, Tensor] = {}
        for terms in self._steps(batch, labels, counted, progress):
            for name, term in terms.items():
                merged[name] = merged[name] + term if name in merged else term
        return merged

    def _steps(self, batch: Batch, labels: Tensor, counted: Tensor, progress: Progress) -> Iterator[dict[str, Tensor]]:
        inputs = self.inputs(batch)
        anchored = self.anchor.inputs(batch) if self.anchor.every_frame else inputs
        told = self.anchor.told(batch, labels)
        targets = AnchorTargets(labels, *self.anchor.modality_targets(anchored, told, counted, progress))
        taught = Taught(batch, inputs, anchored, batch.mask, counted, targets, progress)
        if self.config.variant == "paper":
            yield self._joint(taught)
        else:
            yield from self._alternating(taught)

    def _joint(self, taught: Taught) -> dict[str, Tensor]:
        """All terms of the paper and their weighted sum."""
        anchored, references = self._anchor(taught), self._references(taught)
        labels, counted = taught.targets.labels, taught.counted
        pseudo = self._pseudo_labels(anchored)
        terms = self._anchor_terms(anchored, taught)
        weights = self._anchor_weights()
        for modality, said in references.items():
            terms[f"reference_{modality}"] = binary_loss(said.clip, labels, counted)
            if said.classes is not None:
                terms[f"tokens_{modality}"] = binary_loss(said.classes, labels, counted)
                weights[f"tokens_{modality}"] = self.config.token_weight
            if self.config.self_modality:
                terms[f"self_modality_{modality}"] = binary_loss(said.clip, pseudo[modality], counted)
                weights[f"self_modality_{modality}"] = self.config.self_modality_weight
        teachers = {modality: said.detached() for modality, said in references.items()}
        terms |= self._contrasts(anchored, teachers, taught) | self._co_occurrences(anchored, teachers, taught)
        return {**terms, "total": weighted_sum(terms, weights | self.anchor.segment_weights | self._teaching_weights())}

    def _alternating(self, taught: Taught) -> Iterator[dict[str, Tensor]]:
        """Released: train the audio Reference, the visual Reference, then the Anchor with the updated References as teachers."""
        pseudo = None
        if self.config.self_modality and taught.progress.epoch >= EARLY_EPOCHS:
            with torch.no_grad():
                decided = self._pseudo_labels(self._anchor(taught))
            pseudo = {"audio": decided["audio"] * taught.targets.audio, "visual": decided["visual"] * taught.targets.visual}
        for modality in MODALITIES:
            yield self._reference_step(modality, taught, None if pseudo is None else pseudo[modality])
        with torch.no_grad():
            teachers = self._references(taught)
        anchored = self._anchor(taught)
        terms = self._anchor_terms(anchored, taught)
        if taught.progress.epoch > 0:
            terms |= self._contrasts(anchored, teachers, taught) | self._co_occurrences(anchored, teachers, taught)
        weights = self._anchor_weights() | self.anchor.segment_weights | self._teaching_weights()
        yield {**terms, "total": weighted_sum(terms, weights)}

    def _reference_step(self, modality: Literal["audio", "visual"], taught: Taught, pseudo: Tensor | None) -> dict[str, Tensor]:
        said, target = self._reference(modality, taught), getattr(taught.targets, modality)
        late = taught.progress.epoch >= EARLY_EPOCHS
        terms = {f"reference_{modality}": asymmetric_loss(said.clip, target, taught.counted)}
        weights = {f"reference_{modality}": REFERENCE_LATE if late else 1.0}
        if said.classes is not None:
            terms[f"tokens_{modality}"] = asymmetric_loss(said.classes, target, taught.counted)
            weights[f"tokens_{modality}"] = self.config.token_weight * (TOKENS_LATE if late else TOKENS_EARLY)[modality]
        if pseudo is not None:
            terms[f"self_modality_{modality}"] = asymmetric_loss(said.clip, pseudo, taught.counted)
            weights[f"self_modality_{modality}"] = self.config.self_modality_weight
        return {**terms, "total": weighted_sum(terms, weights)}

    def _anchor(self, taught: Taught) -> Anchored:
        return self.anchor.anchor_forward(taught.anchored, self.anchor.crosses)

    def _anchor_terms(self, anchored: Anchored, taught: Taught) -> dict[str, Tensor]:
        """The Anchor's own losses, including those of the pseudo-labels."""
        return self.anchor.own_losses(taught.batch, anchored, taught.targets, taught.counted, taught.progress)

    def _reference(self, modality: Literal["audio", "visual"], taught: Taught) -> Referred:
        assert self.references is not None, "loaded for prediction only; create the method again to train it"
        visual, audio, motion, mask = taught.referred
        return self.references.embed_audio(audio, mask) if modality == "audio" else self.references.embed_visual(visual, motion, mask)

    def _references(self, taught: Taught) -> dict[str, Referred]:
        return {modality: self._reference(modality, taught) for modality in MODALITIES}

    def _pseudo_labels(self, anchored: Anchored) -> dict[str, Tensor]:
        """Pseudo-labels of Eq. 12, (B, C) in {0, 1} by modality."""
        return {
            "audio": (anchored.clip_audio >= self.config.pseudo_threshold_audio).to(anchored.clip_audio.dtype),
            "visual": (anchored.clip_visual >= self.config.pseudo_threshold_visual).to(anchored.clip_visual.dtype),
        }

    def _contrasts(self, anchored: Anchored, teachers: Mapping[str, Referred], taught: Taught) -> dict[str, Tensor]:
        """Eq. 8, or its replacement by ``contrast``: ``event_audio``, ``event_visual``."""
        config, terms = self.config, {}
        if config.contrast == "none":
            return {}
        shares = unaligned_shares(teachers["audio"].clip, teachers["visual"].clip, config.event_threshold)
        for modality, share in zip(MODALITIES, shares, strict=True):
            teacher, tokens = teachers[modality], getattr(anchored, f"{modality}_tokens")
            weight = share if config.contrast == "event_aware" else torch.ones_like(share)
            if config.contrast == "pseudo_labels":
                decided = (teacher.clip >= config.event_threshold).to(teacher.clip.dtype)
                term = binary_loss(getattr(anchored, f"clip_{modality}"), decided, taught.counted)
            elif config.variant == "released":
                term = reversed_contrast(tokens, teacher.tokens, taught.mask, weight, config.temperature)
            else:
                term = event_aware_contrast(tokens, teacher.tokens, taught.mask, weight, taught.counted, config.temperature)
            terms[f"event_{modality}"] = term
        return terms

    def _co_occurrences(self, anchored: Anchored, teachers: Mapping[str, Referred], taught: Taught) -> dict[str, Tensor]:
        """Eq. 13: ``co_occurrence_audio``, ``co_occurrence_visual``."""
        terms: dict[str, Tensor] = {}
        for modality in MODALITIES if self.config.co_occurrence else ():
            teacher, learner = teachers[modality].clip, getattr(anchored, f"clip_{modality}")
            if self.config.variant == "released":
                trust = confidence(teacher, getattr(taught.targets, modality), *TRUSTED[modality])
                terms[f"co_occurrence_{modality}"] = trusted_co_occurrence_loss(teacher, learner, trust, taught.counted)
            else:
                terms[f"co_occurrence_{modality}"] = co_occurrence_loss(teacher, learner, taught.counted)
        return terms

    def _anchor_weights(self) -> dict[str, float]:
        given = {name: getattr(self.config, f"{name}_weight") for name in ("audio", "visual", "clip")}
        set_here = {name: weight for name, weight in given.items() if weight is not None}
        return {**self.anchor.loss_weights, **set_here}

    def _teaching_weights(self) -> dict[str, float]:
        config = self.config
        return {
            "event_audio": config.contrast_weight_audio, "event_visual": config.contrast_weight_visual,
            "co_occurrence_audio": config.co_occurrence_weight, "co_occurrence_visual": config.co_occurrence_weight,
        }  # fmt: skip
