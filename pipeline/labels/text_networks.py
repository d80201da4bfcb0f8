"""Embed prompts with the text network of CLIP or CLAP, through transformers (extra ``transformers``) from a local folder.

Nothing is downloaded. The published folders could not be had here: checked on small random ones against transformers' own answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.encoders.folders import CONFIG, load_published, weights_file
from pipeline.encoders.weights import weights_sha256
from pipeline.errors import PipelineError
from pipeline.labels.teachers import Modality
from pipeline.labels.texts import TextTable

MODALITIES: dict[str, Modality] = {"clip": "visual", "clap": "audio"}  # whose features the texts are compared with, by model_type


def model_type(folder: Path) -> str:
    """``clip`` or ``clap``, as the folder's config.json says.

    Raises:
        PipelineError: there is none, or it is of another model.
    """
    path = folder / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{path}: {error}; name a folder of CLIP or CLAP as transformers stores it") from None
    if found not in MODALITIES:
        raise PipelineError(f"{path}: a model of type {found!r}; texts can be embedded by {' and '.join(MODALITIES)}")
    return str(found)


def embed(folder: Path, prompts: Mapping[str, str]) -> TextTable:
    """Embed one prompt for each class.

    Raises:
        PipelineError: transformers or a file of the folder is missing, or the weights do not fit.
    """
    kind = model_type(folder)
    try:
        from transformers import AutoTokenizer, ClapConfig, ClapModel, CLIPConfig, CLIPModel
    except ImportError as error:
        raise PipelineError(f"texts need transformers ({error}): pip install 'avel-pipeline[transformers]'") from error
    network_class, config_class = (CLIPModel, CLIPConfig) if kind == "clip" else (ClapModel, ClapConfig)
    path = weights_file(str(folder))
    if not path.is_file():
        raise PipelineError(f"there is no {path}; put the model's weights there")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        settings = config_class.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{folder}: {str(error).strip().splitlines()[0]}; the tokenizer's files are needed too") from error
    network: Any = load_published(network_class, settings, path).eval()
    tokens = tokenizer(list(prompts.values()), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        embedded = network.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
    scale = network.logit_scale if kind == "clip" else network.logit_scale_a
    vectors = torch.nn.functional.normalize(embedded, dim=-1).numpy().astype(np.float32)
    return TextTable(vectors, tuple(prompts), tuple(prompts.values()), math.exp(scale.item()), folder.name, weights_sha256(path))
