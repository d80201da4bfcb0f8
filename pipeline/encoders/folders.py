"""Audio networks that transformers builds (extra ``transformers``) from a local folder.

A folder is as the model is published: config.json, preprocessor_config.json, model.safetensors. Nothing is downloaded. The files could
not be had here: networks and front ends were checked against transformers' own with random weights.
Shape letters: T segments, L samples.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.encoders import weights
from pipeline.encoders.base import AudioEncoder, PretrainedConfig
from pipeline.encoders.known_weights import KNOWN
from pipeline.encoders.waveform import RESAMPLER, cut, resample, segment_starts
from pipeline.errors import PipelineError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class FolderConfig(PretrainedConfig):
    """Settings of a model in a folder: ``weights`` is ``pretrained`` for the file in it, or as for any encoder."""

    places: ClassVar[frozenset[str]] = frozenset({"weights", "folder"})
    folder: str = Field(description="folder of the model as it is published: config.json, preprocessor_config.json, model.safetensors")

    def files(self) -> dict[str, Path]:
        inside = [CONFIG, PREPROCESSOR, *([weights_file(self.folder).name] if self.weights == "pretrained" else [])]
        others = {setting: path for setting, path in super().files().items() if setting != "folder"}
        return others | {f"folder/{name}": Path(self.folder) / name for name in inside}


def weights_file(folder: str) -> Path:
    """The weights in a model's folder, be they there or not."""
    places = [Path(folder) / name for name in WEIGHTS]
    return next((place for place in places if place.is_file()), places[0])


def folder_sha256(folder: Path) -> str:
    """Hex sha256 of the files of a model's folder that say how it is built and what it is given."""
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in (CONFIG, PREPROCESSOR))).hexdigest()


class FolderModel(AudioEncoder):
    """A model in a folder: its network, filled, and the settings of its front end in ``front``."""

    config: FolderConfig
    network: Any
    types: ClassVar[tuple[str, ...]] = ()  # model_type in config.json; none: any

    def __init__(self, config: FolderConfig) -> None:
        super().__init__(config)
        self.front, digest = self._described()
        self.fingerprints["folder"] = digest
        self.network, self.fingerprints["weights"] = self._filled()
        self.network.eval()

    @abstractmethod
    def make(self) -> Any:
        """Give transformers' class of the network, and its configuration read from the folder."""

    def _described(self) -> tuple[dict[str, Any], str]:
        """Read preprocessor_config.json; also return a hash of it and of config.json.

        Raises:
            PipelineError: a file is missing or is no JSON, or the folder holds another architecture.
        """
        folder, read = Path(self.config.folder), {}
        for name in (CONFIG, PREPROCESSOR):
            path = folder / name
            if not path.is_file():
                known = KNOWN.get(self.name)
                raise PipelineError(f"encoder {self.name}: there is no {path}; {known.note if known else 'name a folder of the model'}")
            try:
                read[name] = dict(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                raise PipelineError(f"{path}: not a JSON object ({error}); get it again") from error
        found = read[CONFIG].get("model_type")
        if self.types and found not in self.types:
            raise PipelineError(
                f"encoder {self.name}: {folder} holds a model of type {found!r}, not {self.types[0]!r}; name another folder"
            )
        return read[PREPROCESSOR], folder_sha256(folder)

    def _filled(self) -> tuple[nn.Module, str]:
        """Build the network and fill it; also return the fingerprint of its weights.

        Raises:
            PipelineError: transformers is not installed, or the weights are missing or do not fit.
        """
        try:
            network_class, settings = self.make()
        except ImportError as error:
            raise PipelineError(f"encoder {self.name} needs transformers ({error}): pip install 'avel-pipeline[transformers]'") from error
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise PipelineError(f"{Path(self.config.folder) / CONFIG}: transformers cannot read it: {error}") from error
        setting, folder = self.config.weights, self.config.folder
        if setting != "pretrained":
            return weights.build(lambda: network_class(settings), setting, KNOWN.get(self.name, KNOWN["clap"]))
        path = weights_file(folder)
        if not path.is_file():
            raise PipelineError(
                f"encoder {self.name}: no {' or '.join(WEIGHTS)} in {folder}; put it there, or set `weights` to a file's path or none"
            )
        return load_published(network_class, settings, path), weights.weights_sha256(path)

    def transform(self) -> dict[str, Any]:
        return {"sample_rate": self.rate, "resampler": RESAMPLER, "front_end": self.name}

    @property
    def rate(self) -> int:
        return int(self.front["sampling_rate"])

    def windows(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float, least: int = 1) -> Tensor:
        """Cut (L,) into the segments, (T, samples) at the model's rate, silence after its end; at least ``least`` samples each."""
        length = max(least, round(segment_seconds * self.rate))
        return cut(resample(waveform, sample_rate, self.rate), segment_starts(segments, segment_seconds, self.rate), length)


def load_published(network_class: Any, settings: Any, path: Path) -> nn.Module:
    """Load a published file by transformers, which knows the layer names of older ones.

    Raises:
        PipelineError: it cannot be read, lacks a layer of the network, has one of another shape, or is not the file that ``settings`` name.
    """
    from transformers.utils import logging

    if (other := getattr(settings, "transformers_weights", None)) not in (None, path.name):  # it would be loaded, and be in no key
        raise PipelineError(f"{path.parent / CONFIG} names {other!r} as the file of its weights (transformers_weights), not {path.name}")
    spoken = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, found = network_class.from_pretrained(
            path.parent, config=settings, local_files_only=True, dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True, use_safetensors=path.suffix == ".safetensors",
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise PipelineError(f"{path}: transformers cannot load it: {str(error).strip().splitlines()[0]}") from error
    finally:
        logging.set_verbosity(spoken)
        logging.enable_progress_bar()
    wrong = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    if wrong:
        raise PipelineError(
            f"{path}: {len(wrong)} layers that {network_class.__name__} needs are not in it or have another shape, {wrong[0]} first: it"
            " is of another architecture than its config.json says"
        )
    return network
