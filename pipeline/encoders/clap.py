"""CLAP's audio tower (Wu et al., ICASSP 2023) through transformers, from a local folder.

Shape letters: T segments, L samples, F frames, N items of a batch, D width.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.encoders.base import ENCODERS
from pipeline.encoders.folders import CONFIG, FolderConfig, FolderModel
from pipeline.encoders.frontends import clap_logmel, mel_matrix


class ClapConfig(FolderConfig):
    """Settings of CLAP.

    pool: ``projected``, the embedding in the joint space of sounds and texts; ``pooled``, what precedes the projection.
    """

    folder: str = Field("models/pretrained/clap-htsat-unfused", description="folder of the model as it is published")
    pool: Literal["projected", "pooled"] = "projected"


@ENCODERS.register("clap")
class Clap(FolderModel):
    """CLAP's HTS-AT: each segment repeated to 10 s, as its training repeats short sounds.

    (D,), projected (512 for the released models) and not normalised, or pooled (768). Models with fusion get four equal channels, and no
    sound counts as a longer one: transformers' own front end marks one sound of a batch so at random. Samples are rounded to 16 bits as in
    LAION's code. Of a segment over 10 s the first 10 s are taken. ``laion/clap-htsat-fused`` is not VALOR's checkpoint (630k-fusion-best).
    """

    name = "clap"
    types = ("clap", "clap_audio_model")
    Config = ClapConfig
    config: ClapConfig

    def __init__(self, config: ClapConfig) -> None:
        super().__init__(config)
        settings = self.network.config
        self.output_shape = (settings.projection_dim if config.pool == "projected" else settings.hidden_size,)
        self.fused = bool(settings.enable_fusion)
        front = self.front
        self.bands = mel_matrix(
            self.rate, front["fft_window_size"], front["feature_size"], front["frequency_min"], front["frequency_max"],
            "htk" if front["truncation"] == "fusion" else "slaney",
        )  # fmt: skip

    def make(self) -> Any:
        from transformers.models.clap.configuration_clap import ClapConfig as Whole
        from transformers.models.clap.modeling_clap import ClapAudioModelWithProjection

        read = json.loads((Path(self.config.folder) / CONFIG).read_text(encoding="utf-8"))
        whole = Whole(audio_config=read) if read["model_type"] == "clap_audio_model" else Whole.from_dict(read)
        return ClapAudioModelWithProjection, whole.audio_config

    def transform(self) -> dict[str, Any]:
        return {**super().transform(), "padding": "repeated, then silence", "bits": 16}

    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """(L,) -> (T, 1 or 4, F, 64) dB; F = 1001 of 10 s."""
        longest = round(self.front["max_length_s"] * self.rate)
        parts = self.windows(waveform, sample_rate, segments, segment_seconds)[:, :longest]
        parts = (parts.clamp(-1, 1) * 32767).to(torch.int16).double() / 32767
        parts = parts.repeat(1, longest // parts.shape[1])
        parts = functional.pad(parts, (0, longest - parts.shape[1]))
        sizes = self.front["fft_window_size"], self.front["hop_length"]
        frames = torch.cat([clap_logmel(part, *sizes, self.bands) for part in parts.split(1)])  # a whole clip would take 300 MB
        return frames[:, None].repeat(1, 4 if self.fused else 1, 1, 1)

    def encode(self, batch: Tensor) -> Tensor:
        """(N, 1 or 4, F, 64) -> (N, D)."""
        longer = torch.zeros(len(batch), 1, dtype=torch.bool, device=batch.device)
        if self.config.pool == "projected":
            return self.network(input_features=batch, is_longer=longer).audio_embeds
        return self.network.audio_model(input_features=batch, is_longer=longer).pooler_output
