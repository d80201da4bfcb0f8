"""UWAV's teachers: Lai et al., "UWAV: Uncertainty-weighted Weakly-supervised Audio-Visual Video Parsing", CVPR 2025, as released.

Two networks over time, of one modality each, on the features of CLAP and of CLIP: a transformer whose output, at every segment, is compared
with the text vectors of the classes. They learn together from the dense labels of untrimmed videos (UnAV-100): an event there is heard and
seen, so the product of both probabilities is its probability. UWAV makes the labels of LLP's segments with them
(:mod:`pipeline.methods.uwav` learns from such labels); here they answer the task that they were trained for, events heard and seen. No
number of theirs on it is published.

``audio_texts``, ``visual_texts``: tables of the classes' text vectors, of CLAP and of CLIP ("This is the sound of ...", "A photo of ...").
**Without a table the vectors are random**, the same in every run; the network can still learn which is which.

Deliberate differences from the released code: the text vectors are scaled to unit length when they are read; every layer starts from
weights of its own; among epochs with equal validation scores the first is kept. Labels of LLP's segments are not made with them here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from pipeline.batch import Batch, Tensors
from pipeline.errors import InputProblems
from pipeline.layers.parsing_losses import binary_terms
from pipeline.layers.pooling import masked_mean, max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, Method, Progress
from pipeline.methods.shared.gates import GateConfig, GatedMethod
from pipeline.methods.shared.inputs import Inputs, method_inputs
from pipeline.methods.shared.text_vectors import random_vectors, read_vectors, table_problems
from pipeline.methods.valor import ValorRecipe
from pipeline.tasks.avvp import MODALITIES, ParsingScores
from pipeline.tasks.avvp_av import JointTargets


class UwavTeacherRecipe(ValorRecipe):
    """AdamW 1e-4, ten epochs of warm-up and a cosine to 1e-5 after 80, batches of 64.

    Gradients up to 2, as released; validation picks the epoch with the best segment-level AV, the headline.
    """

    minimum: float = Field(1e-5, ge=0)
    clip_norm: float | None = Field(2.0, gt=0)
    epochs: int = Field(80, ge=1)


class UwavTeacherConfig(GateConfig):
    """Defaults: the released networks."""

    width: int = Field(1024, ge=1, description="of both modalities' features in the transformer")
    hidden: int = Field(2048, ge=1, description="hidden width of the two layers before it")
    layers: int = Field(5, ge=1, le=24, description="of the transformer")
    heads: int = Field(16, ge=1, description="of its attention")
    feedforward: int = Field(2048, ge=1, description="hidden width in its layers")
    dropout: float = Field(0.3, ge=0, lt=1, description="in its layers")
    audio_texts: Path | None = Field(
        None, description=".npz with names (C,) and vectors (C, audio_text_width) of the classes (the paper: CLAP's); null: random vectors"
    )
    visual_texts: Path | None = Field(None, description="likewise, (C, visual_text_width) (the paper: CLIP's)")
    audio_text_width: int = Field(512, ge=1, description="of the vectors of the classes in audio")
    visual_text_width: int = Field(768, ge=1, description="likewise in the visual modality")
    audio_scale: float = Field(3.2912, gt=0, description="factor on the products of audio features and text vectors")
    visual_scale: float = Field(4.6052, gt=0, description="likewise in the visual modality")
    present_weight: float = Field(5.0, gt=0, description="of a class that the clip has, in the loss; 1 of the others")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is heard and seen in a segment from this probability on")
    recipe: UwavTeacherRecipe = UwavTeacherRecipe()

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, heads=self.heads)
        return self

    def class_problems(self, classes: Sequence[str]) -> list[str]:
        """What is wrong with the text vectors for the classes of the data set."""
        return [
            problem
            for modality in MODALITIES
            if (path := getattr(self, f"{modality}_texts")) is not None
            for problem in table_problems(path, getattr(self, f"{modality}_text_width"), classes, f"{modality}_")
        ]


class Teacher(nn.Module):
    """Features of one modality -> vectors that are compared with texts, segment by segment.

    Two linear layers, post-norm transformer layers without a positional code, two linear layers; a ReLU between the layers of each pair.
    """

    def __init__(self, input_width: int, config: UwavTeacherConfig, text_width: int) -> None:
        super().__init__()
        width = config.width
        self.embed = nn.Sequential(nn.Linear(input_width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.heads, config.feedforward, config.dropout, batch_first=True)
            for _ in range(config.layers)
        )
        self.project = nn.Sequential(nn.Linear(width, text_width), nn.ReLU(), nn.Linear(text_width, text_width))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D_in), (B, T) bool with a True in every clip -> (B, T, text width)."""
        stream = self.embed(features)
        for layer in self.layers:
            stream = layer(stream, src_key_padding_mask=~mask)
        return self.project(stream)


@METHODS.register("uwav_teacher")
class UwavTeacher(GatedMethod):
    """A teacher of each modality, trained on dense labels of events heard and seen.

    Parameters at 768 (CLIP) and 512 (CLAP): 92,985,856.
    """

    tasks = frozenset({"avvp_av"})
    Config = UwavTeacherConfig
    config: UwavTeacherConfig
    audio_texts: Tensor
    visual_texts: Tensor

    def __init__(
        self, config: UwavTeacherConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.audio = Teacher(self.audio_shape[0], config, config.audio_text_width)
        self.visual = Teacher(self.visual_shape[-1], config, config.visual_text_width)
        for modality in MODALITIES:  # those of a file come in prepare
            vectors = random_vectors(num_classes, getattr(config, f"{modality}_text_width"))
            self.register_buffer(f"{modality}_texts", normalize(vectors, dim=1))

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Tensors]]]) -> None:
        """Read the text vectors of the classes.

        Raises:
            InputProblems: a file is no table, or its vectors are of another width or number.
        """
        for modality in MODALITIES:
            path, own = getattr(self.config, f"{modality}_texts"), getattr(self, f"{modality}_texts")
            if path is None:
                continue
            try:
                _, vectors = read_vectors(path, f"{modality}_")
            except ValueError as error:
                raise InputProblems("uwav_teacher", [str(error)]) from None
            if vectors.shape != own.shape:
                raise InputProblems("uwav_teacher", [f"{modality}_texts: {path}: {tuple(vectors.shape)}, but {tuple(own.shape)} is needed"])
            own.copy_(normalize(vectors, dim=1))

    def logits(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Of every class in audio and in the visual stream, (B, T, C) each, in float32 at least."""
        heard = self.audio(inputs.audio, inputs.mask) @ self.audio_texts.T
        seen = self.visual(inputs.visual.mean(dim=2), inputs.mask) @ self.visual_texts.T
        return self.config.audio_scale * at_least_float32(heard), self.config.visual_scale * at_least_float32(seen)

    def probability(self, batch: Batch) -> Tensor:
        """Of every class in every segment, heard and seen: (B, T, C)."""
        heard, seen = self.logits(method_inputs(self, batch))
        return heard.sigmoid() * seen.sigmoid()

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """``segments``: weighted cross-entropy, its mean over valid segments and classes.

        Raises:
            TypeError: targets other than dense audio-visual labels.
        """
        if not isinstance(targets, JointTargets):
            raise TypeError(f"UwavTeacher learns from dense labels of task avvp_av and cannot train on {type(targets).__name__}")
        probability, valid = self.probability(batch), batch.mask.unsqueeze(-1)
        present = targets.segments & valid
        weights = torch.where(present.any(dim=1, keepdim=True), self.config.present_weight, 1.0).to(probability.dtype)
        terms = weights * binary_terms(probability, present.to(probability.dtype))
        loss = masked_mean(terms, valid.expand_as(terms))
        return {"segments": loss, "total": loss}

    def predict(self, batch: Batch) -> ParsingScores:
        """Audio and visual alike: the probability that a class is heard and seen; no threshold of the clip."""
        probability = self.probability(batch)
        clip = max_over_time(probability, batch.mask | ~batch.mask.any(dim=1, keepdim=True))
        own = (self.config.segment_threshold, 0.0)
        return ParsingScores(probability, probability, clip, clip, self.gates(clip, own, own))
