"""Frames and waveform -> features: the exact audio front ends, the networks, their weights and where they come from.

To add an encoder: one class with ``name``, ``Config``, ``prepare``, ``encode`` and ``transform``, registered under its name and
imported here; tests/encoders/test_encoder_contract.py then runs it.
"""

from __future__ import annotations

from pipeline.encoders import (
    clap,
    clip,
    cnn14,
    hear,
    logmel,
    timm_models,
    torchvision_models,
    transformers_models,
    vggish,
    video_models,
    yamnet,
)
from pipeline.encoders.base import ENCODERS, AudioEncoder, Encoder, EncoderConfig, PretrainedConfig, VisualEncoder, create

__all__ = [
    "ENCODERS",
    "AudioEncoder",
    "Encoder",
    "EncoderConfig",
    "PretrainedConfig",
    "VisualEncoder",
    "clap",
    "clip",
    "cnn14",
    "create",
    "hear",
    "logmel",
    "timm_models",
    "torchvision_models",
    "transformers_models",
    "vggish",
    "video_models",
    "yamnet",
]
