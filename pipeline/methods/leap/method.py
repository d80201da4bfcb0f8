"""LEAP: Zhou, Guo, Mao, Zhong, Chang, Wang, "Label-Anticipated Event Disentanglement for Audio-Visual Video Parsing", ECCV 2024.

A token per class, from the text of its name, attends to the segments of one modality after the encoder; the tokens say which classes the
clip has, and the scores of their last attention, with a sigmoid and not a softmax, in which segments. Trained on labels of segments that
CLIP and CLAP guess (``pseudo_labels``, VALOR's), with a loss that makes segments of the two streams alike as far as their labels agree.
Published on LLP with HAN's encoder, as UWAV's paper prints it, segment level: A 62.7, V 65.6, AV 59.3, Type@AV 62.5, Event@AV 61.8; event
level: 56.4, 63.1, 54.1, 57.8, 55.0. With MM-Pyramid's, from notes on the paper: Type@AV 64.8, Event@AV 63.6; 60.2 and 57.4.

``encoder``: ``mm_pyramid`` (released), ``han`` (in the paper, not in its code) or ``valor`` (ours), each with its own defaults in
``encoder_defaults``. MM-Pyramid's streams have their own names here, as in LEAP's code and unlike in MM-Pyramid's.

``texts``: a table of the classes' text vectors. The paper takes GloVe's (6B, 300 wide). **Without a table the vectors are random**, the
same in every run: the linear layer behind them can still give every class a token of its own, but similar names are not near each other.

``variant: released`` (default; the published numbers come from it) and ``paper`` differ in the target of the streams' similarity: released
r / (1 + r) + .01, at most .51, with r the number of shared events over the most in a segment of the clip; paper the shared events over all.

Of the released code, and followed here: the scores of the last attention are worked out a second time, with the attention's own output,
not normalised, as the query; a class counts in both modalities if the clip has it in either one.

Deliberate differences from the released code:

* Its sixth loss, the cross-entropy of the clip's decision, is a constant and left out.
* Layers start from weights of their own; there both decoders start alike, and the encoder as in :mod:`pipeline.methods.mm_pyramid.method`.
* Layers that are registered but never used are left out (52,005,380 parameters there, 47,256,068 of them used).
* The eight frames of a segment are averaged before their linear layer (equal up to rounding).
* Padding (the released code has none): no token attends to it, and it is left out of every loss.
* Among epochs with equal validation scores the first is kept (released: the last).
* ``pseudo_labels: null``, ours: the clip's labels teach the tokens, and the largest of a class's segments instead of the segments; there is
  no similarity loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.batch import Batch, Tensors
from pipeline.errors import InputProblems
from pipeline.layers.hybrid_attention import HybridAttention, HybridEncoder, ParsingFrontEnd
from pipeline.layers.multimodal_pyramid import PyramidEncoder
from pipeline.layers.parsing_losses import binary_loss
from pipeline.layers.pooling import max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.methods.base import METHODS, Method, Progress, Recipe
from pipeline.methods.leap.decoder import LabelTokenDecoder
from pipeline.methods.leap.similarity import shared_events, similarity_loss
from pipeline.methods.shared.anchor import Anchored, AnchorMethod, AnchorTargets
from pipeline.methods.shared.parsing import ParsingConfig, ParsingInputs, PseudoLabels
from pipeline.methods.shared.text_vectors import random_vectors, read_vectors, table_problems
from pipeline.settings import merge
from pipeline.tasks.avvp import MODALITIES, ParsingScores


class LeapRecipe(Recipe):
    """Adam 1e-4, divided by 10 every ten epochs, 30 epochs, batches of 32, as released."""

    learning_rate: float = Field(1e-4, gt=0)
    milestones: tuple[int, ...] = (10, 20)
    decay: float = Field(0.1, gt=0, le=1)
    batch_size: int = Field(32, ge=1)
    epochs: int = Field(30, ge=1)


class LeapConfig(ParsingConfig):
    """Defaults: the released network; ``encoder_defaults`` lists what differs with another encoder."""

    encoder_defaults: ClassVar[Mapping[str, Any]] = {
        "han": {"encoder_heads": 1, "encoder_layers": 1, "encoder_dropout": 0.1},
        "valor": {"encoder_layers": 1, "encoder_feedforward": 1024, "encoder_dropout": 0.1},
    }

    pseudo_labels: PseudoLabels | None = PseudoLabels(audio="audio_labels", visual="visual_labels")
    variant: Literal["released", "paper"] = Field("released", description="target of the similarity of the streams")
    encoder: Literal["mm_pyramid", "han", "valor"] = Field("mm_pyramid", description="network before the tokens")
    width: int = Field(512, ge=1, description="of both modalities' features and of the tokens")
    encoder_heads: int = Field(8, ge=1, description="of every attention of the encoder; han: 1")
    encoder_layers: int = Field(4, ge=1, le=12, description="levels of mm_pyramid; han, valor: 1 layer")
    encoder_feedforward: int = Field(512, ge=1, description="hidden width in the encoder's attention blocks; valor: 1024")
    encoder_dropout: float = Field(0.2, ge=0, lt=1, description="in the encoder's attention blocks; han, valor: 0.1")
    decoder_layers: int = Field(2, ge=1, le=12, description="of each modality's decoder")
    decoder_heads: int = Field(8, ge=1, description="of every attention of the decoders")
    decoder_feedforward: int = Field(512, ge=1, description="hidden width in the decoders")
    dropout: float = Field(0.2, ge=0, lt=1, description="in the decoders")
    attention_dropout: float = Field(0.1, ge=0, lt=1, description="of the attention weights of decoders and mm_pyramid")
    texts: Path | None = Field(
        None, description=".npz with names (C,) and vectors (C, text_width) of the classes (the paper: GloVe's); null: random vectors"
    )
    text_width: int = Field(300, ge=1, description="of the vectors of the classes")
    segment_threshold: float = Field(0.5, ge=0, le=1, description="a class is active in a segment from this probability on")
    clip_threshold: float = Field(0.5, ge=0, le=1, description="and only if its clip probability, in either modality, reaches this")
    recipe: LeapRecipe = LeapRecipe()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_encoder(cls, given: Any) -> Any:
        return merge(cls.encoder_defaults.get(str(given.get("encoder")), {}), given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        check_heads(self.width, encoder_heads=self.encoder_heads, decoder_heads=self.decoder_heads)
        if self.encoder == "han" and self.encoder_layers != 1:
            raise ValueError("encoder: han has one layer; encoder: valor takes several")
        return self

    def class_problems(self, classes: Sequence[str]) -> list[str]:
        """What is wrong with ``texts`` for the classes of the data set."""
        return [] if self.texts is None else table_problems(self.texts, self.text_width, classes)


def encoder_of(config: LeapConfig) -> nn.Module:
    """The network before the tokens: audio, visual (B, T, D), mask, cross -> the same two streams."""
    width, heads, feedforward, dropout = config.width, config.encoder_heads, config.encoder_feedforward, config.encoder_dropout
    if config.encoder == "mm_pyramid":
        return PyramidEncoder(width, heads, config.encoder_layers, feedforward, dropout, config.attention_dropout)
    if config.encoder == "han":
        return HybridAttention(width, heads, feedforward, dropout)
    return HybridEncoder(width, config.encoder_layers, heads, feedforward, dropout, "sequential")


@METHODS.register("leap")
class Leap(AnchorMethod):
    """Label tokens on an encoder.

    Parameters at 8x2048, 128, a motion stream of 512 and text vectors of 300, C = 25: 47,256,068 with MM-Pyramid's encoder.
    """

    Config = LeapConfig
    config: LeapConfig
    texts: Tensor

    def __init__(
        self, config: LeapConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes, other_shapes)
        self.front_end = ParsingFrontEnd(self.visual_shape[-1], self.audio_shape[0], self.motion_width, config.width)
        self.encoder = encoder_of(config)
        self.token_width = config.width
        self.register_buffer("texts", random_vectors(num_classes, config.text_width))  # those of the file come in prepare
        self.tokens = nn.Linear(config.text_width, config.width)
        self.decoders, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for modality in MODALITIES:
            self.decoders[modality] = LabelTokenDecoder(
                config.width, config.decoder_layers, config.decoder_heads, config.decoder_feedforward, config.dropout,
                config.attention_dropout,
            )  # fmt: skip
            self.heads[modality] = nn.Linear(config.width, 1)

    def prepare(self, first: Method | None, batches: Callable[[], Iterable[tuple[Batch, Tensors]]]) -> None:
        """Read the text vectors of the classes.

        Raises:
            InputProblems: the file is no table, or its vectors are of another width or number.
        """
        if self.config.texts is None:
            return
        try:
            _, vectors = read_vectors(self.config.texts)
        except ValueError as error:
            raise InputProblems("leap", [str(error)]) from None
        if vectors.shape != self.texts.shape:
            raise InputProblems("leap", [f"texts: {self.config.texts}: {tuple(vectors.shape)}, but {tuple(self.texts.shape)} is needed"])
        self.texts.copy_(vectors)

    def anchor_forward(self, inputs: ParsingInputs, cross: bool = True) -> Anchored:
        visual, audio, motion, mask = inputs
        audio, visual = self.encoder(*self.front_end(visual, audio, motion), mask, cross)
        p_audio, clip_audio = self._found("audio", audio, mask)
        p_visual, clip_visual = self._found("visual", visual, mask)
        return Anchored(audio, visual, p_audio, p_visual, clip_audio, clip_visual, torch.maximum(clip_audio, clip_visual))

    def _found(self, modality: str, stream: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the segments (B, T, C) and of the clip (B, C) in one modality."""
        tokens, scores = self.decoders[modality](self.tokens(self.texts), stream, mask)
        return at_least_float32(scores).sigmoid().transpose(1, 2), at_least_float32(self.heads[modality](tokens)).squeeze(-1).sigmoid()

    def modality_targets(
        self, inputs: ParsingInputs, told: tuple[Tensor, Tensor], counted: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """The labels themselves."""
        return told

    def anchor_losses(
        self, anchored: Anchored, targets: AnchorTargets, mask: Tensor, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """``audio``, ``visual``; the clip's probability in either modality is the larger one and has no loss of its own."""
        return {
            "audio": binary_loss(anchored.clip_audio, targets.audio, counted),
            "visual": binary_loss(anchored.clip_visual, targets.visual, counted),
        }

    def own_losses(
        self, batch: Batch, anchored: Anchored, targets: AnchorTargets, counted: Tensor, progress: Progress
    ) -> dict[str, Tensor]:  # fmt: skip
        """Also ``similarity``, from pseudo-labels; without these the losses of each class's largest segment."""
        terms = super().own_losses(batch, anchored, targets, counted, progress)
        if (guessed := self.pseudo_labels(batch)) is not None:
            terms["similarity"] = similarity_loss(
                anchored.audio_tokens, anchored.visual_tokens, shared_events(*guessed, self.config.variant), batch.mask
            )
            return terms
        valid = batch.mask | ~counted.unsqueeze(1)
        for modality in MODALITIES:
            largest = max_over_time(getattr(anchored, modality), valid)
            terms[f"{modality}_largest"] = binary_loss(largest, getattr(targets, modality), counted)
        return terms

    def predict(self, batch: Batch) -> ParsingScores:
        said = self.anchor_forward(self.inputs(batch))
        thresholds = (self.config.segment_threshold, self.config.clip_threshold)
        return ParsingScores(said.audio, said.visual, said.clip, said.clip, self.gates(said.clip, thresholds, thresholds))
