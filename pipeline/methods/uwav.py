"""UWAV: Lai et al., "UWAV: Uncertainty-weighted Weakly-supervised Audio-Visual Video Parsing", CVPR 2025, as released: its student.

A wider and deeper VALOR, learned from the clip's labels and from soft labels of segments (``pseudo_labels``): a teacher's probability that
a class of the clip is on, sigma((z - theta) / 2) of its logit z and the class's threshold theta. Three changes to VALOR:

* in the losses of segments, the classes that a clip has weigh more than the many that it lacks (``balanced``);
* segments of a batch are mixed in pairs behind the encoder, and so are their labels (``mixup``);
* visual and motion features pass one linear layer together, and the audio features two.

Published on LLP, segment level (A, V, AV, Type@AV, Event@AV): 64.2, 70.0, 63.4, 65.9, 63.9; event level: 58.6, 66.7, 57.5, 60.9, 57.4; with
hard labels, unweighted and unmixed, 64.2 and 59.5 Type@AV. **The labels behind these numbers are not label-free**: their teachers were
trained on the dense labels of UnAV-100, and their thresholds chosen on the dense labels of LLP's validation split. On labels made without
any, such as VALOR's scores with its thresholds, the student is as weakly supervised as VALOR. ``report.dense_labels`` marks runs that are
not. The teachers are :mod:`pipeline.methods.uwav_teacher`.

``variant: released`` (default; the published numbers come from it) weighs the segments' terms with (C - f) / 2 where the clip has the class
and with f where it lacks it; f is the number of classes on in a segment, by the hard labels, on average over the training split. ``paper``
divides both by the number of classes C, so that the terms are C times smaller.

Deliberate differences from the released code: those of :mod:`pipeline.methods.valor`; and

* f is counted from the labels given (on from 1/2, where a soft label passes its threshold) and not read from a file;
* a label is made once, before training; there, that of a class whose threshold is minus infinity changes with the batch, whose least logit
  less 1 stands for the threshold;
* pairs of segments of which one is padding are left out of the mixture;
* the student on features of CLIP and CLAP (68.9 and 63.9) runs there at width 768 alone, without motion and without its visual layer; here
  any feature set will do, with that layer.

Clips of a batch meet in the mixture, in training alone; a GPU records it with the step, since nothing in it asks the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Batch, Tensors
from pipeline.layers.parsing_losses import segment_loss
from pipeline.layers.precision import at_least_float32
from pipeline.methods.base import METHODS, Betas, Method, Progress
from pipeline.methods.shared.anchor import Anchored, AnchorTargets
from pipeline.methods.valor import Valor, ValorConfig, ValorRecipe
from pipeline.tasks.avvp import MODALITIES

ON = 0.5  # soft label from which on the hard label is 1


class UwavRecipe(ValorRecipe):
    """AdamW 1e-4, ten epochs of warm-up and a cosine to 5e-6 after 80, batches of 64, as released."""

    betas: Betas = (0.9, 0.999)
    weight_decay: float = Field(1e-4, ge=0, le=10)
    minimum: float = Field(5e-6, ge=0)
    epochs: int = Field(80, ge=1)


class UwavConfig(ValorConfig):
    """Defaults: the released student."""

    layers: int = Field(5, ge=1, le=100, description="of the encoder")
    heads: int = Field(16, ge=1, description="of each attention; they divide the width")
    feedforward: int = Field(2048, ge=1, description="hidden width in the attention blocks")
    audio_hidden: int = Field(1024, ge=1, description="hidden width of the audio features' two layers")
    balanced: bool = Field(True, description="weigh classes that a clip has more than those it lacks, in the losses of segments")
    balance: float = Field(0.5, gt=0, le=1000, description="factor on the weight of classes that a clip has")
    mixup: float | None = Field(1.7, gt=0, le=1000, description="both parameters of the beta distribution of a mixture's share; null: none")
    variant: Literal["released", "paper"] = Field("released", description="paper: the weights divided by the number of classes")
    recipe: UwavRecipe = UwavRecipe()


class UwavFrontEnd(nn.Module):
    """Features of a segment -> audio and visual streams of one width.

    Audio: two linear layers with a ReLU between. Visual: one linear layer of the frames' mean and the motion, concatenated.
    """

    def __init__(self, visual_width: int, audio_width: int, motion_width: int | None, hidden: int, width: int) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Linear(audio_width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.visual = nn.Linear(visual_width + (motion_width or 0), width)

    def forward(self, visual: Tensor, audio: Tensor, motion: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, T, D_v), (B, T, D_a), (B, T, D_m) or None -> audio, visual (B, T, D)."""
        return self.audio(audio), self.visual(visual if motion is None else torch.cat([visual, motion], dim=-1))


@METHODS.register("uwav")
class Uwav(Valor):
    """VALOR's network, larger, on soft labels of segments.

    Parameters at 8x2048, 128 and a motion stream of 512, C = 25: 23,021,643.
    """

    Config = UwavConfig
    config: UwavConfig
    classes_on: Tensor

    def __init__(
        self, config: UwavConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.register_buffer("classes_on", torch.zeros(2))  # of a training segment, by modality

    def _new_front_end(self) -> nn.Module:
        widths = self.visual_shape[-1], self.audio_shape[0], self.motion_width
        return UwavFrontEnd(*widths, self.config.audio_hidden, self.config.width)

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Tensors]]]) -> None:
        """Count the classes that are on in a training segment, by modality."""
        if self.config.pseudo_labels is None or not self.config.balanced:
            return
        on, segments = torch.zeros(2, dtype=torch.float64), 0
        for batch, _ in batches():
            guessed = self.pseudo_labels(batch)
            assert guessed is not None
            on += torch.stack([(labels > ON).sum() for labels in guessed]).cpu()
            segments += int(batch.mask.sum())
        self.classes_on.copy_(on / max(segments, 1))

    @property
    def segment_weights(self) -> dict[str, float]:
        """Weights of the terms from pseudo-labels."""
        names = [f"{modality}_{of}" for modality in MODALITIES for of in ("segments", "mixed")]
        return dict.fromkeys(names, self.config.segment_weight)

    def own_losses(
        self, batch: Batch, anchored: Anchored, targets: AnchorTargets, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:  # fmt: skip
        """``clip``, and by modality ``..._segments`` and, in train mode, ``..._mixed``."""
        terms = self.kept_terms(self.anchor_losses(anchored, targets, batch.mask, counted, progress))
        guessed = self.pseudo_labels(batch)
        if guessed is None:
            return terms
        probabilities, tokens = (anchored.audio, anchored.visual), (anchored.audio_tokens, anchored.visual_tokens)
        for number, modality in enumerate(MODALITIES):
            weights = self.class_weights(targets.labels, number) if self.config.balanced else None
            terms[f"{modality}_segments"] = segment_loss(probabilities[number], guessed[number], batch.mask, weights)
        if self.config.mixup is not None and self.training:
            for number, modality in enumerate(MODALITIES):
                terms[f"{modality}_mixed"] = self._mixed_loss(tokens[number], guessed[number], batch.mask, self.config.mixup)
        return terms

    def class_weights(self, labels: Tensor, modality: int) -> Tensor:
        """Weights of the segments' losses from the clips' labels: (B, C) -> (B, 1, C)."""
        on = self.classes_on[modality].to(labels.dtype)
        weights = torch.where(labels > ON, self.config.balance * (self.num_classes - on), on)
        return (weights / self.num_classes if self.config.variant == "paper" else weights).unsqueeze(1)

    def _mixed_loss(self, tokens: Tensor, labels: Tensor, mask: Tensor, concentration: float) -> Tensor:
        """Cross-entropy of mixed segments of the whole batch: each with another one, all with the same share."""
        rows, targets, valid = tokens.flatten(0, 1), labels.flatten(0, 1), mask.flatten()
        both = torch.full((), concentration, device=rows.device)
        share = torch.distributions.Beta(both, both, validate_args=False).sample()
        order = torch.rand(len(rows), device=rows.device).argsort()
        mixed = at_least_float32(self.pooling.classifier(mixture(rows, order, share))).sigmoid()
        return segment_loss(mixed, mixture(targets, order, share), valid & valid[order])


def mixture(values: Tensor, order: Tensor, share: Tensor) -> Tensor:
    """Mix each row with another one: share x + (1 - share) x[order]."""
    weight = share.to(values.dtype)
    return weight * values + (1 - weight) * values[order]
