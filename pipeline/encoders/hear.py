"""Any audio model with the HEAR API (Turian et al., 2022): ``load_model``, ``get_timestamp_embeddings``, from a module of the user's.

The API: ``load_model(path)`` gives a model with ``sample_rate`` and ``timestamp_embedding_size``;
``get_timestamp_embeddings(audio, model)`` takes sounds (N, L) in [-1, 1] and gives embeddings (N, K, D) with their times (N, K) in ms.
BEATs, PaSST, EfficientAT, CREPE and some thirty others have such modules; each has a licence of its own.
Shape letters: N segments, L samples, K timestamps, D width.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.cache import file_sha256
from pipeline.encoders import weights
from pipeline.encoders.base import ENCODERS, AudioEncoder, PretrainedConfig, own_file
from pipeline.encoders.waveform import RESAMPLER, cut, resample, segment_starts
from pipeline.errors import PipelineError

FUNCTIONS = ("load_model", "get_timestamp_embeddings")
FACTS = ("sample_rate", "timestamp_embedding_size")


class HearConfig(PretrainedConfig):
    """Settings of a model with the HEAR API.

    weights: the file that ``load_model`` is given; ``none`` calls it without one; ``finetuned/NAME`` fills the network of ``none``.
    """

    places: ClassVar[frozenset[str]] = frozenset({"weights", "module"})
    runs_code: ClassVar[bool] = True
    module: str = Field(description="an installed module, or the path of a .py file, with load_model and get_timestamp_embeddings")
    weights: str = Field("none", description="path of the file that load_model takes, finetuned/NAME, or none to call it without one")

    def files(self) -> dict[str, Path]:
        """The files of the user's that the settings name, by setting; an installed module's are not among them."""
        return {setting: path for setting, path in super().files().items() if setting != "module" or path.suffix == ".py"}

    def sources(self) -> dict[str, Path]:
        files = _source_files(self.module)
        own = {str(path) for path in self.files().values()}
        return {f"module_files/{file.relative_to(files[0].parent).as_posix()}": file for file in files if str(file) not in own}


@ENCODERS.register("hear")
class Hear(AudioEncoder):
    """A model with the HEAR API on each segment alone: the mean of the embeddings timed inside it, (D,).

    In the cache key are the weights and the module's source: its file with those beside it that it imports, or its whole package. Other
    packages that it imports are not.
    """

    name = "hear"
    Config = HearConfig
    config: HearConfig

    def __init__(self, config: HearConfig) -> None:
        super().__init__(config)
        module, self.fingerprints["module"] = _found(config.module)
        missing = [name for name in FUNCTIONS if not callable(getattr(module, name, None))]
        if missing:
            raise PipelineError(f"HEAR module {config.module!r} has no function {' and no '.join(missing)}; the HEAR API asks for it")
        self.model, self._embed = self._loaded(module), module.get_timestamp_embeddings
        wrong = [name for name in FACTS if not _is_count(getattr(self.model, name, None))]
        if wrong:
            raise PipelineError(f"HEAR module {config.module!r}: its model has no whole number {' and no '.join(wrong)}")
        self.network = self.model if isinstance(self.model, nn.Module) else nn.Module()
        self.rate, self.seconds = int(self.model.sample_rate), 0.0
        self.output_shape = (int(self.model.timestamp_embedding_size),)

    def _loaded(self, module: ModuleType) -> Any:
        """Call ``load_model`` with the weights, under a fixed seed.

        Raises:
            PipelineError: there is no such file, the module cannot load it, or its model is no network that could be fine-tuned.
        """
        setting = self.config.weights
        path = own_file(setting)
        if path is not None and not path.is_file():
            raise PipelineError(f"weights {setting!r} of HEAR module {self.config.module!r}: there is no such file; correct the path")
        if setting == "pretrained":
            raise PipelineError("encoder hear knows no published weights; set `weights` to the path of the module's file, or to none")
        tuned = setting.startswith("finetuned/")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights.RANDOM_SEED)
            try:
                model = module.load_model(*([str(path)] if path is not None else []))
            except Exception as error:
                raise PipelineError(f"HEAR module {self.config.module!r}: load_model({path or ''}) fails: {error}") from error
        if tuned:
            if not isinstance(model, nn.Module):
                raise PipelineError(f"HEAR module {self.config.module!r}: its model is no torch module, so it has no weights {setting!r}")
            place = weights.FINETUNED / setting.removeprefix("finetuned/") / "encoder.safetensors"
            if not place.is_file():
                raise PipelineError(f"weights {setting!r}: there is no {place}; run the finetune stage that writes it, or correct the name")
            weights.load_layers(model, weights.read_state(place), str(place))
            path = place
        self.fingerprints["weights"] = weights.weights_sha256(path) if path is not None else "none: what load_model() makes by itself"
        return model

    def transform(self) -> dict[str, Any]:
        return {"sample_rate": self.rate, "resampler": RESAMPLER, "front_end": "hear", "pooled": "mean of the times in the segment"}

    def prepare(self, waveform: Tensor, sample_rate: int, segments: int, segment_seconds: float) -> Tensor:
        """(L,) -> (N, samples of a segment)."""
        length = max(1, round(segment_seconds * self.rate))
        return cut(resample(waveform, sample_rate, self.rate), segment_starts(segments, segment_seconds, self.rate), length)

    def encode(self, batch: Tensor) -> Tensor:
        """(N, L) -> (N, D).

        Raises:
            PipelineError: the module answers in other shapes, or with times that are not those of the segment in milliseconds.
        """
        embeddings, times = self._embed(batch, self.model)
        self._check(embeddings, times, len(batch), batch.shape[1] * 1000 / self.rate)
        inside = (times >= 0) & (times < batch.shape[1] * 1000 / self.rate)  # (N, K)
        kept = torch.where(inside[..., None], embeddings, 0)
        return kept.sum(dim=1) / inside.sum(dim=1, keepdim=True)

    def _check(self, embeddings: Any, times: Any, count: int, milliseconds: float) -> None:
        module, width = self.config.module, self.output_shape[0]
        tensors = isinstance(embeddings, Tensor) and isinstance(times, Tensor)
        shapes = f"{tuple(getattr(embeddings, 'shape', ()))} and {tuple(getattr(times, 'shape', ()))}"
        if not tensors or embeddings.dim() != 3 or embeddings.shape[::2] != (count, width) or times.shape != embeddings.shape[:2]:
            raise PipelineError(
                f"HEAR module {module!r}: get_timestamp_embeddings gives {shapes} of {count} sounds, not tensors ({count}, K, {width}) and"
                f" ({count}, K)"
            )
        first = times[0].double()
        if not torch.isfinite(times).all() or bool((times.diff(dim=1) <= 0).any()):
            raise PipelineError(f"HEAR module {module!r}: its timestamps do not ascend within a sound")
        spread = float(first[-1]) if len(first) else math.nan
        if not bool(((first >= 0) & (first < milliseconds)).any()) or (len(first) > 1 and spread < milliseconds / 20):
            raise PipelineError(
                f"HEAR module {module!r}: its timestamps, 0 to {spread:g}, are not the milliseconds of a sound of {milliseconds:g} ms"
            )


def _is_count(value: object) -> bool:
    with suppress(TypeError, ValueError):
        return int(value) == value and int(value) > 0  # type: ignore[call-overload, no-any-return]
    return False


def _found(name: str) -> tuple[ModuleType, str]:
    """Import the module; also return a hash of its source.

    Raises:
        PipelineError: there is none, or importing it fails.
    """
    try:
        if name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(f"hear_{file_sha256(Path(name))[:16]}", name)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules.get(spec.name) or importlib.util.module_from_spec(spec)
            if spec.name not in sys.modules:
                sys.modules[spec.name] = module
                try:
                    spec.loader.exec_module(module)
                except BaseException:
                    del sys.modules[spec.name]
                    raise
        else:
            module = importlib.import_module(name)
    except (OSError, ImportError) as error:
        raise PipelineError(f"HEAR module {name!r} cannot be imported ({error}); install it, or give the path of its .py file") from error
    except Exception as error:
        raise PipelineError(f"HEAR module {name!r}: importing it fails: {error}") from error
    if not (files := _source_files(name)):
        raise PipelineError(f"HEAR module {name!r} has no file of its own; name the module in it that has the functions")
    return module, _source_sha256(files)


def _source_files(name: str) -> list[Path]:
    """The source of a module, its own file first; none where there is no such module. Nothing is run."""
    if name.endswith(".py"):
        return _beside(Path(name), [Path(name)]) if Path(name).is_file() else []
    with suppress(ImportError, ValueError):
        top = importlib.util.find_spec(name.partition(".")[0])
        found = top if top is None or top.origin else importlib.util.find_spec(name)  # a package without __init__.py has no file
        if found is not None and found.origin is not None:
            place = Path(found.origin)
            inside = sorted(place.parent.rglob("*.py")) if place.name == "__init__.py" else []
            return [place, *(file for file in inside if file != place)]
    return []


def _source_sha256(files: Sequence[Path]) -> str:
    """Hash of a module's file, the first, and of others by their places beside it."""
    place, *others = files
    if not others:
        return file_sha256(place)
    lines = [f"{file.relative_to(place.parent).as_posix()} {file_sha256(file)}\n" for file in others]
    return hashlib.sha256("".join([f"{file_sha256(place)}\n", *sorted(lines)]).encode()).hexdigest()


def _beside(place: Path, found: list[Path]) -> list[Path]:
    """``found``, and the files in its folder that a module imports, and those import."""
    try:
        tree = ast.parse(place.read_bytes())
    except SyntaxError:  # importing it says where
        return found
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in names:
            single, package = (found[0].parent / name.partition(".")[0]).with_suffix(".py"), found[0].parent / name.partition(".")[0]
            files = [single] if single.is_file() else sorted(package.rglob("*.py")) if (package / "__init__.py").is_file() else []
            for file in files:
                if file not in found:
                    found.append(file)
                    _beside(file, found)
    return found
