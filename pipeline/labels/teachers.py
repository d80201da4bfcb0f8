"""From a teacher's stored outputs to scores of the data set's classes.

Two kinds of teacher: one with a joint space of its features and texts (CLIP, CLAP), whose score is the scaled cosine of a segment's
feature and the class's text; and one with classes of its own (YAMNet), whose score is the logit of the highest probability among the
classes that stand for the data set's. Shape letters: N clips, T segments, C classes, D width of an output.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from pipeline.datasets.base import count_lines
from pipeline.labels.settings import LabelSet, Teacher
from pipeline.labels.texts import TextTable, class_problems, read_texts
from pipeline.labels.valor import VALOR
from pipeline.registry import suggest
from pipeline.text import text_lines

Modality = Literal["audio", "visual"]
LEAST = 1e-7  # probabilities are kept this far from 0 and 1, whose logits are not finite


@dataclass(frozen=True)
class Scorer:
    """Scores of C classes from a teacher's outputs.

    table: of a teacher with texts. columns: of one with classes, the outputs that stand for each class; ``width`` of them in all.
    """

    classes: Sequence[str]
    width: int
    table: TextTable | None = None
    columns: list[list[int]] = field(default_factory=list)

    @property
    def without(self) -> list[str]:
        """Classes to which nothing of the teacher corresponds."""
        return [label for label, columns in zip(self.classes, self.columns, strict=True) if not columns] if self.columns else []

    def __call__(self, outputs: NDArray[np.floating]) -> NDArray[np.float32]:
        """Score (N, T, D) -> (N, T, C); infinity for a class without a counterpart."""
        values = outputs.astype(np.float32)
        if self.table is not None:
            lengths = np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
            return np.float32(self.table.scale) * ((values / lengths) @ self.table.embeddings.T)
        scores = np.full((*values.shape[:2], len(self.columns)), np.inf, np.float32)
        for number, columns in enumerate(self.columns):
            if columns:
                scores[..., number] = as_scores(values[..., columns].max(axis=-1))
        return scores


def as_scores(probabilities: NDArray[np.floating] | float) -> NDArray[np.float32]:
    """Logits of probabilities, kept finite; a threshold of 0 stays below all but those of probabilities up to 1e-7."""
    return logit(np.clip(probabilities, LEAST, 1 - LEAST)).astype(np.float32)


def scorer(path: str, modality: Modality, teacher: Teacher, classes: Sequence[str], problems: list[str]) -> Scorer | None:
    """Read what a teacher needs for scores of ``classes``; None without a teacher, or if something is wrong.

    Args:
        path: of the teacher in params.yaml.
        problems: gets a sentence for everything wrong with the teacher's files, classes and thresholds.
    """
    found: list[str] = []
    made = None
    if teacher.texts is not None:
        try:
            table = read_texts(teacher.texts)
            found += class_problems(table.classes, classes, f"{path}.texts: {teacher.texts}")
            made = Scorer(classes, table.embeddings.shape[1], table)
            if teacher.thresholds == "valor":
                found += valor_problems(path, modality, table, classes)
        except ValueError as error:
            found.append(f"{path}.texts: {error}")
    elif teacher.classes:
        names = class_names(path, teacher, found)
        found += class_problems(sorted(teacher.classes, key=_order(classes)), classes, f"{path}.classes")
        for label, named in teacher.classes.items() if names else ():
            missing = [name for name in named if name not in names]
            found += [f"{path}.classes.{label}: the teacher has no class {name!r}{suggest(name, names)}" for name in missing]
        if not found:
            columns = [[names.index(name) for name in teacher.classes[label]] for label in classes]
            made = Scorer(classes, len(names), columns=columns)
    if isinstance(teacher.thresholds, dict):
        found += class_problems(sorted(teacher.thresholds, key=_order(classes)), classes, f"{path}.thresholds")
    found += count_lines(f"{path}.never: no class of the data set", [label for label in teacher.never if label not in classes])
    problems += found
    return None if found else made


def _order(classes: Sequence[str]):
    """A key that sorts names as ``classes`` are, unknown ones last: in params.yaml the order of a mapping means nothing."""
    return lambda name: classes.index(name) if name in classes else len(classes)


def class_names(path: str, teacher: Teacher, problems: list[str]) -> list[str]:
    """Read the teacher's own class names, in the order of its outputs."""
    assert teacher.class_names is not None, "checked with the settings"
    unread: list[str] = []
    rows = list(csv.DictReader(text_lines(teacher.class_names, unread)))
    if not unread and (not rows or "display_name" not in rows[0]):
        unread.append(f"{teacher.class_names}: a CSV with the column display_name is needed, one line per class of the teacher, in order")
    problems += [f"{path}.class_names: {problem}" for problem in unread]
    return [] if unread else [row["display_name"] for row in rows]


def valor_problems(path: str, modality: Modality, table: TextTable, classes: Sequence[str]) -> list[str]:
    """Check that VALOR's thresholds belong to these classes, prompts and checkpoint."""
    published = VALOR[modality]
    if list(classes) != list(published.thresholds):
        return [f"{path}.thresholds: valor has thresholds for LLP's 25 classes, in its order, and the data has others; give your own"]
    of = f"VALOR's thresholds belong to {published.checkpoint}"
    problems = []
    if abs(table.scale / published.scale - 1) > 1e-3:
        problems.append(f"{path}.thresholds: {of}, with a scale of {published.scale:g}; {table.model} has {table.scale:.4g}: give its own")
    other = [label for label, prompt in zip(table.classes, table.prompts, strict=True) if published.prompts.get(label) != prompt]
    return problems + count_lines(f"{path}.thresholds: {of} and its prompts; {table.model} was asked others for the classes", other)


def file_problems(name: str, settings: LabelSet, classes: Sequence[str]) -> list[str]:
    """List what is wrong with an entry's files, classes and thresholds; no store is needed."""
    problems: list[str] = []
    for modality, teacher in settings.by_modality.items():
        scorer(f"labels.{name}.{modality}", modality, teacher, classes, problems)
    return problems


def output_problems(path: str, modality: Modality, teacher: Teacher, made: Scorer, spec: dict[str, Any]) -> list[str]:
    """Check a store's outputs against what the scores are computed from.

    Args:
        spec: of the store with the teachers' outputs.
    """
    shape, problems = tuple(spec["shapes"][modality]), []
    if shape != (made.width,):
        needs = f"texts of width {made.width} ({teacher.texts})" if made.table else f"{made.width} class names ({teacher.class_names})"
        problems.append(f"{path}: the teacher's {modality} outputs have the shape {shape} a segment, which does not fit {needs}")
    encoder = spec["encoders"].get(modality, {})
    loaded = encoder.get("weights", {})
    if made.table is not None and encoder.get("encoder") == "clap" and made.table.weights not in loaded.values():  # one file, both towers
        texts = f"{teacher.texts} was made by {made.table.model} with the weights {made.table.weights[:16]}"
        problems.append(f"{path}.texts: {texts}, and the teacher's sounds were encoded with {loaded.get('weights', 'others')[:16]}")
    if teacher.weights is not None and not any(digest.startswith(teacher.weights) for digest in loaded.values()):
        have = ", ".join(digest[:16] for digest in loaded.values()) or "of no known checkpoint"
        problems.append(
            f"{path}.weights: texts and thresholds belong to the checkpoint {teacher.weights[:16]}; the teacher's outputs are {have}"
        )
    return problems
