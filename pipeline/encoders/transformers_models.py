"""AST and models of the raw waveform through transformers, from local folders.

Shape letters: T segments, L samples, F frames, N items of a batch, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.encoders.base import ENCODERS
from pipeline.encoders.folders import FolderConfig, FolderModel
from pipeline.errors import PipelineError

KALDI_WINDOW = 400  # samples, 25 ms at 16 kHz


class AstConfig(FolderConfig):
    """Settings of AST: its folder and weights."""

    folder: str = Field("models/pretrained/ast-finetuned-audioset-10-10-0.4593", description="folder of the model as it is published")


@ENCODERS.register("ast")
class Ast(FolderModel):
    """Audio Spectrogram Transformer (Gong et al., Interspeech 2021): the mean of its two class tokens, (768,), of each segment alone.

    Kaldi's 128 log-mel bands, zeros after a segment's end up to the length that the model was trained on (1024 frames), then normalised by
    AudioSet's statistics, as its own front end does.
    """

    name = "ast"
    types = ("audio-spectrogram-transformer",)
    Config = AstConfig
    config: AstConfig

    def __init__(self, config: AstConfig) -> None:
        super().__init__(config)
        self.output_shape = (self.network.config.hidden_size,)

    def make(self) -> Any:
        from transformers.models.audio_spectrogram_transformer import ASTConfig, ASTModel

        return ASTModel, ASTConfig.from_pretrained(self.config.folder, local_files_only=True)

    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """(L,) -> (T, F, 128), normalised."""
        from torchaudio.compliance import kaldi

        front, rows = self.front, []
        for part in self.windows(waveform, sample_rate, segments, segment_seconds, KALDI_WINDOW).split(1):
            bands = kaldi.fbank(part, sample_frequency=self.rate, window_type="hanning", num_mel_bins=front["num_mel_bins"])
            rows.append(functional.pad(bands, (0, 0, 0, front["max_length"] - len(bands))))  # a negative pad cuts
        frames = torch.stack(rows)
        return (frames - front["mean"]) / (front["std"] * 2) if front.get("do_normalize", True) else frames

    def encode(self, batch: Tensor) -> Tensor:
        """(N, F, 128) -> (N, 768)."""
        return self.network(batch).pooler_output


class WaveformTransformerConfig(FolderConfig):
    """Settings of a model of the raw waveform: its folder and weights."""


@ENCODERS.register("waveform_transformer")
class WaveformTransformer(FolderModel):
    """Any model of the raw waveform that transformers knows: its last states' mean over a segment.

    Such are wav2vec 2.0, HuBERT, WavLM, data2vec. The waveform of a segment is normalised to mean 0 and
    deviation 1 where the folder says so.
    """

    name = "waveform_transformer"
    Config = WaveformTransformerConfig
    config: WaveformTransformerConfig

    def __init__(self, config: WaveformTransformerConfig) -> None:
        super().__init__(config)
        self.output_shape = (self.network.config.hidden_size,)
        self.shortest = 1  # samples that give one state: each convolution needs a whole kernel
        for kernel, stride in reversed(list(zip(self.network.config.conv_kernel, self.network.config.conv_stride, strict=True))):
            self.shortest = (self.shortest - 1) * stride + kernel

    def make(self) -> Any:
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_MAPPING

        settings = AutoConfig.from_pretrained(self.config.folder, local_files_only=True, trust_remote_code=False)
        if not hasattr(settings, "conv_kernel"):
            raise PipelineError(
                f"encoder {self.name}: {self.config.folder} holds a model of type {settings.model_type!r}, which takes no raw waveform"
            )
        return MODEL_MAPPING[type(settings)], settings

    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """(L,) -> (T, samples)."""
        parts = self.windows(waveform, sample_rate, segments, segment_seconds, self.shortest)
        if not self.front.get("do_normalize", True):
            return parts
        return (parts - parts.mean(1, keepdim=True)) / (parts.var(1, keepdim=True, correction=0) + 1e-7).sqrt()

    def encode(self, batch: Tensor) -> Tensor:
        """(N, samples) -> (N, D)."""
        return self.network(batch).last_hidden_state.mean(dim=1)
