"""A trained seed on disk: ``seed-K.safetensors``, then ``seed-K.json`` with the facts that rebuild the method.

With folds there is one of each seed and fold: ``seed-K-fold-F.safetensors``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.datasets.base import count_lines
from pipeline.errors import PipelineError
from pipeline.methods import Method, create
from pipeline.publish import replacing
from pipeline.sealed import read_sealed, unsealed, write_sealed
from pipeline.tensors import Damaged, discard, load_tensors, save_tensors
from pipeline.training.members import Member
from pipeline.training.run import shape_arguments


def weights_path(directory: Path, seed: int, fold: int | None = None) -> Path:
    return directory / f"{Member(seed, fold).stem}.safetensors"


def facts_path(directory: Path, seed: int, fold: int | None = None) -> Path:
    return directory / f"{Member(seed, fold).stem}.json"


def save_seed(directory: Path, member: Member, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a seed's weights, then its facts: a seed with facts is trained."""
    save_tensors(weights_path(directory, *member), weights)
    with replacing(facts_path(directory, *member)) as partial:
        write_sealed(partial, facts)


def is_trained(directory: Path, member: Member) -> bool:
    """Tell whether this seed was trained and is undamaged; damaged files are removed."""
    facts, weights = facts_path(directory, *member), weights_path(directory, *member)
    if not facts.is_file():
        return False
    try:
        unsealed(facts.read_text(encoding="utf-8"))["history"]
        load_tensors(weights)
    except (Damaged, ValueError, KeyError) as error:
        weights.unlink(missing_ok=True)
        discard(facts, str(error) if isinstance(error, Damaged) else f"{facts} is damaged", f"{member} is trained again")
        return False
    return True


def load_seed(directory: str | Path, seed: int, fold: int | None = None) -> tuple[Method, dict[str, Any]]:
    """Load a seed: (method in eval mode with its trained weights, the facts stored with them).

    Args:
        fold: of a run with folds, which has one network a fold.

    Raises:
        PipelineError: the seed was not trained, its files are damaged or not finite, or the weights do not fit the method (the message
            lists the missing and unexpected ones).
    """
    path, of_weights = facts_path(Path(directory), seed, fold), weights_path(Path(directory), seed, fold)
    if not path.is_file():
        raise PipelineError(f"{directory}: {Member(seed, fold)} was not trained; run `dvc repro`")
    facts = read_sealed(path)
    shapes = {name: tuple(shape) for name, shape in facts["shapes"].items()}
    method = create(facts["method"], **shape_arguments(shapes), num_classes=len(facts["classes"]), **facts["settings"])
    weights, _ = load_tensors(of_weights)
    if names := count_lines("tensors with numbers that are not finite", method.not_finite(weights)):
        raise PipelineError(f"{of_weights}: {names[0]}; remove {directory} and train again")
    try:
        method.load_kept(weights)
    except RuntimeError as error:
        raise PipelineError(f"{of_weights} does not fit {facts['method']}: {error}") from None
    return method.eval(), facts


def write_curves(directory: Path, histories: Mapping[Member, Sequence[Mapping[str, Any]]]) -> None:
    """Write ``curves.csv``: seed, fold if there are folds, epoch and every recorded quantity, one line per epoch."""
    lines = [{**member.columns, **line} for member, history in histories.items() for line in history]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with open(directory / "curves.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
