"""VGGish (Hershey et al., ICASSP 2017): 128-d embedding of 0.96 s of sound.

Three published behaviours differ in what follows the last layer, and each is a setting:
    AVE's audio_feature.h5            final_relu, no pca      (65 % exact zeros; the default here)
    AudioSet's released features      no final_relu, pca, quantize
    Google's current code, raw        no final_relu, no pca
The weight file could not be downloaded here: the network was checked against its definition and torchvggish's layer names and shapes,
not against its published smoke-test numbers.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from pipeline.encoders import weights
from pipeline.encoders.base import ENCODERS, AudioEncoder, PretrainedConfig
from pipeline.encoders.frontends import VGGISH_RATE
from pipeline.encoders.known_weights import KNOWN
from pipeline.encoders.patches import PATCH_SECONDS, consecutive_patches, segment_patches
from pipeline.encoders.waveform import RESAMPLER, resample
from pipeline.errors import PipelineError

LOG_OFFSET = 0.01
WIDTH = 128
PCA_RANGE = 2.0  # PCA values are clipped to [-2, 2] before they become 8 bits


class VggishNetwork(nn.Module):
    """Log-mel patches (N, 96, 64) -> (N, 128), before any final activation. Layer names as in torchvggish."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for out, pool in ((64, True), (128, True), (256, False), (256, True), (512, False), (512, True)):
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2, 2)] if pool else []
            width = out
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(6 * 4 * 512, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, WIDTH)
        )

    def forward(self, patches: Tensor) -> Tensor:
        maps = self.features(patches.unsqueeze(1))
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # (6, 4, 512): TensorFlow flattens with the channels last


class VggishConfig(PretrainedConfig):
    """Settings of VGGish: what follows the last layer, and where patches start.

    final_relu: ReLU after the last layer, as in the code that made AVE's features and in torchvggish.
    pca: whitening with AudioSet's PCA, clipped to [-2, 2].
    quantize: to 0..255, truncated as Google's code does (torchvggish rounds: up to one level apart). Needs ``pca``.
    hop: 1.0 starts each patch with its segment, whatever the segment's length; 0.96 cuts patches one after another as the published
        code does, which lags behind 1 s segments by up to 0.36 s at the tenth.
    pca_params: ``pretrained`` (models/pretrained/vggish_pca_params.npz) or a path.
    """

    places: ClassVar[frozenset[str]] = frozenset({"weights", "pca_params"})
    final_relu: bool = True
    pca: bool = False
    quantize: bool = False
    hop: float = 0.96
    pca_params: str = "pretrained"

    @field_validator("hop")
    @classmethod
    def _one_of_two(cls, hop: float) -> float:
        if hop not in (PATCH_SECONDS, 1.0):
            raise ValueError(f"hop must be 0.96 (patches one after another) or 1.0 (aligned with the segments), not {hop}")
        return hop

    @model_validator(mode="after")
    def _quantized_after_pca(self) -> VggishConfig:
        if self.quantize and not self.pca:
            raise ValueError("quantize needs pca: true (only PCA values have the fixed range that 8 bits are laid over)")
        return self


@ENCODERS.register("vggish")
class Vggish(AudioEncoder):
    """VGGish on one patch per segment; at hop 1.0, segments of 1.92 s and longer average several (before PCA)."""

    name = "vggish"
    Config = VggishConfig
    config: VggishConfig
    output_shape = (WIDTH,)
    pca_matrix: Tensor
    pca_means: Tensor

    def __init__(self, config: VggishConfig) -> None:
        super().__init__(config)
        self.network, self.fingerprints["weights"] = weights.build(VggishNetwork, config.weights, KNOWN["vggish"], ignore=("pproc.",))
        if config.pca:
            path = weights.resolve(config.pca_params, KNOWN["vggish_pca"])
            if path is None:
                raise PipelineError("pca_params: none is not possible, since PCA needs its file; set pca: false or name the file")
            matrix, means = read_pca(path)
            self.register_buffer("pca_matrix", matrix, persistent=False)
            self.register_buffer("pca_means", means, persistent=False)
            self.fingerprints["pca_params"] = weights.weights_sha256(path)

    def transform(self) -> dict[str, Any]:
        return {"sample_rate": VGGISH_RATE, "resampler": RESAMPLER, "front_end": "vggish", "log_offset": LOG_OFFSET}

    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """(L,) -> (T, P, 96, 64) log-mel patches, P per segment.

        Raises:
            PipelineError: hop 0.96 with segments that are neither 0.96 nor 1 s long: patches would drift away from their segments.
        """
        waveform = resample(waveform, sample_rate, VGGISH_RATE)
        if self.config.hop == 1.0:
            return segment_patches(waveform, segments, segment_seconds, LOG_OFFSET)
        if segment_seconds not in (PATCH_SECONDS, 1.0):
            raise PipelineError(f"vggish: hop 0.96 is for segments of 1 s, these are {segment_seconds} s; set hop: 1.0")
        return consecutive_patches(waveform, segments, LOG_OFFSET)

    def encode(self, batch: Tensor) -> Tensor:
        """(N, P, 96, 64) -> (N, 128)."""
        embedding = self.network(batch.flatten(0, 1))
        if self.config.final_relu:
            embedding = functional.relu(embedding)
        embedding = embedding.unflatten(0, batch.shape[:2]).mean(dim=1)
        if self.config.pca:
            embedding = whiten(embedding, self.pca_matrix, self.pca_means)
        if self.config.quantize:
            embedding = to_eight_bits(embedding)
        return embedding


def whiten(embedding: Tensor, matrix: Tensor, means: Tensor) -> Tensor:
    """Apply AudioSet's post-processing, clip(P (x - mean), -2, 2): (N, 128), (128, 128), (128,) -> (N, 128)."""
    return ((embedding - means) @ matrix.T).clamp(-PCA_RANGE, PCA_RANGE)


def to_eight_bits(whitened: Tensor) -> Tensor:
    """Quantize [-2, 2] to whole numbers in [0, 255], as float32, truncated."""
    return ((whitened + PCA_RANGE) * (255.0 / (2.0 * PCA_RANGE))).floor()


def read_pca(path: Path) -> tuple[Tensor, Tensor]:
    """Read the PCA matrix (128, 128) and means (128,), float32, from a file such as vggish_pca_params.npz.

    Raises:
        PipelineError: not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            matrix, means = arrays["pca_eigen_vectors"], arrays["pca_means"].reshape(-1)
    except (KeyError, OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise PipelineError(f"{path}: not a VGGish PCA file (.npz with pca_eigen_vectors and pca_means): {error}") from error
    if matrix.shape != (WIDTH, WIDTH) or means.shape != (WIDTH,):
        raise PipelineError(f"{path}: pca_eigen_vectors {matrix.shape} and pca_means {means.shape}, expected (128, 128) and (128,)")
    return torch.from_numpy(matrix).float(), torch.from_numpy(means).float()
