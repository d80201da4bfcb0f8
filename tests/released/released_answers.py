"""What the networks of the papers' released code answer (goldens/; its README says how), and the weights that they answer with."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

GOLDENS = Path(__file__).parent / "goldens"
FLOAT64, FLOAT32 = 1e-9, 1e-5  # tolerances, by what the released network computes in
NO_SLOPE = 1e-6  # of the largest gradient: one that is zero but for rounding (a softmax's common shift) is nothing to compare relatively


class Answers:
    """Numbers of the released code, compared one array at a time; ``faults`` is what was off, ``compared`` what was asked for."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = dict(arrays)
        self.compared: set[str] = set()
        self.faults: list[str] = []

    def equal(self, name: str, ours: Any, tolerance: float) -> None:
        """Every number of the array within ``tolerance``, absolute."""
        released = self.arrays[name]
        ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
        self.compared.add(name)
        if ours.shape != released.shape:
            self.faults.append(f"{name}: shape {ours.shape}, released {released.shape}")
        elif not (gap := float(np.abs(ours.astype(np.float64) - released).max())) <= tolerance:  # NaN is a fault as well
            self.faults.append(f"{name}: {gap:.3g} off, tolerance {tolerance:.3g}")

    def equal_all(self, ours: Mapping[str, Any], tolerance: float) -> None:
        """Outputs and losses; a loss in float32, which may be a sum of many terms, within that share of its size, 1e-4 at most."""
        for name, value in ours.items():
            released = self.arrays[name]
            sums = tolerance == FLOAT32 and released.ndim == 0
            self.equal(name, value, min(tolerance * max(1.0, abs(float(released))), 1e-4) if sums else tolerance)

    def equal_gradients(self, gradients: Mapping[str, Tensor], tolerance: float) -> None:
        """The sum and the sum of squares of every parameter's gradient, relative to the sum of absolute values and to itself.

        Relative, because single gradients are as small as 1e-8, and float32 sums of a quarter of a million terms no nearer than that. A
        parameter that ours does not have must have no gradient in theirs.
        """
        size = max(float(gradient.double().abs().sum()) for gradient in gradients.values())
        names = {key.removeprefix("gsum/") for key in self.arrays if key.startswith("gsum/")}
        assert gradients.keys() <= names, f"no gradient in the released code: {gradients.keys() - names}"
        for name in names:
            gradient = gradients.get(name, torch.zeros(1)).double()
            total, squares = float(gradient.abs().sum()), float((gradient**2).sum())
            floor = NO_SLOPE * size if name in gradients else 0.0
            self.equal(f"gsum/{name}", gradient.sum(), tolerance * (total + floor))
            self.equal(f"gsq/{name}", squares, tolerance * (squares + floor**2))


@contextmanager
def answers(file: str, prefix: str = "") -> Iterator[Answers]:
    """The arrays of a file below ``prefix``; at the end every one of them must have been compared, and be equal."""
    found = Answers({key.removeprefix(prefix): array for key, array in stored(file).items() if key.startswith(prefix)})
    assert found.arrays, f"{file} holds nothing below {prefix}"
    yield found
    assert not found.faults, f"{len(found.faults)} of {len(found.compared)} off:\n" + "\n".join(found.faults)
    missed = sorted(found.arrays.keys() - found.compared)
    assert not missed, f"never compared: {missed}"


@functools.cache
def stored(file: str) -> Mapping[str, NDArray[Any]]:
    """All arrays of a file, by name."""
    with np.load(GOLDENS / file, allow_pickle=False) as arrays:
        return dict(arrays)


@functools.cache
def described(file: str) -> dict[str, Any]:
    """One of the JSON files."""
    return json.loads((GOLDENS / file).read_text(encoding="utf-8"))


def drawn(tag: str, *shape: int) -> NDArray[np.float32]:
    """Standard normal numbers that are a function of ``tag``."""
    seed = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:4], "big")
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


@functools.lru_cache(maxsize=256)  # two networks': the cases of a method follow one another
def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """What the released parameter of this name is set to: by its fan-in, near 1 for a norm's gain, else small."""
    numbers = drawn(f"w:{name}", *shape)
    if len(shape) >= 2:
        numbers = numbers / np.float32(np.sqrt(np.prod(shape[1:])))
    elif name.endswith("weight"):
        numbers = 1 + np.float32(0.1) * numbers
    else:
        numbers = np.float32(0.1) * numbers
    return torch.from_numpy(numbers.astype(np.float32))


def released_parameters(network: nn.Module, modules: Mapping[str, str]) -> dict[str, nn.Parameter]:
    """Every parameter of ours by its released name; ``modules`` maps the modules, or parameters, that hold them."""
    parameters = {}
    for own, parameter in network.named_parameters():
        (place,) = [place for place in modules if own == place or own.startswith(f"{place}.")]
        released = modules[place] + own.removeprefix(place)
        assert released not in parameters, f"{own}: another of our parameters is {released}"
        parameters[released] = parameter
    return parameters


@torch.no_grad()
def take_weights(network: nn.Module, modules: Mapping[str, str], shapes: Mapping[str, list[int]]) -> dict[str, nn.Parameter]:
    """Set every parameter to the weight of the released one of its name; they differ in dimensions of size 1 at most.

    Args:
        shapes: of the released parameters.

    Returns:
        :func:`released_parameters`.
    """
    parameters = released_parameters(network, modules)
    for name, parameter in parameters.items():
        released = weight(name, tuple(shapes[name]))
        assert [size for size in released.shape if size > 1] == [size for size in parameter.shape if size > 1], name
        parameter.copy_(released.reshape(parameter.shape))
    return parameters
