"""Make a label set and say how good it is: what the stage ``label`` does.

``quality.csv`` beside the labels has precision, recall and F1 by split, modality and class, where the truth is known. Beside the scores of
the labels stand those of the trivial answer, the clip's labels in all segments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.labels.labelling import Labelling
from pipeline.labels.quality import MODALITIES, SHOWN, class_table, counted, quality, truth_of
from pipeline.labels.teachers import Modality
from pipeline.labels.thresholds import Thresholds

QUALITY = "quality.csv"
SPLITS = ("train", "val", "test")
DENSE = "thresholds searched on validation's dense labels"


def make_labels(labelling: Labelling, directory: Path) -> tuple[dict[str, Any], list[str]]:
    """Write the store and ``quality.csv``.

    Returns:
        (scores by split, of the ``labels`` and of the ``clip_label`` in all segments; sentences for the user).
    """
    thresholds = {modality: labelling.thresholds(modality) for modality in MODALITIES}
    labels = labelling.write(directory, thresholds, made_of(labelling, thresholds))
    scores: dict[str, Any] = {}
    tables = []
    for split in SPLITS:
        rows = labelling.true_rows(split)
        if not len(rows):
            continue
        entries = rows["entry"].to_numpy()
        truth = truth_of(rows, labelling.classes, labelling.features.segments, labelling.features.spec["segment_seconds"])
        valid = labelling.valid[entries]
        everywhere = np.broadcast_to(labelling.clip_labels[entries][:, None], truth["audio"].shape)
        counts = counted({modality: labels[modality][entries] for modality in MODALITIES}, truth, valid)
        scores[split] = {
            "labels": quality(counts),
            "clip_label": quality(counted(dict.fromkeys(MODALITIES, everywhere), truth, valid)),
        }
        tables.append(pd.DataFrame(class_table(counts, labelling.classes)).assign(split=split))
    pd.concat(tables or [pd.DataFrame()]).to_csv(directory / QUALITY, index=False)
    return scores, [*remarks(labelling), *(line for split, of_split in scores.items() for line in quality_lines(split, of_split))]


def made_of(labelling: Labelling, thresholds: dict[Modality, Thresholds]) -> dict[str, Any]:
    """Everything that determines the labels, as plain JSON, for the store's spec."""
    made: dict[str, Any] = {"features": labelling.settings.features, "teachers": labelling.settings.teachers}
    for modality, teacher in labelling.settings.by_modality.items():
        scorer = labelling.scorers[modality]
        made[modality] = {"settings": teacher.model_dump(mode="json", exclude={"texts", "class_names"})}
        if scorer is not None:
            table = scorer.table
            texts = {"prompts": table.prompts, "model": table.model, "weights": table.weights, "scale": table.scale} if table else None
            made[modality] |= {
                "encoder": labelling.teachers.spec["encoders"].get(modality),
                "texts": texts,
                "thresholds": {
                    label: value if np.isfinite(value) else None  # null: on in all segments
                    for label, value in zip(labelling.classes, thresholds[modality].hard.tolist(), strict=True)
                },
            }
    searched = [modality for modality, teacher in labelling.settings.by_modality.items() if teacher.searches]
    return made | ({"dense_labels": f"{DENSE} ({', '.join(searched)})"} if searched else {})


def remarks(labelling: Labelling) -> list[str]:
    """What the user should know of how the labels came about."""
    lines = []
    for modality, teacher in labelling.settings.by_modality.items():
        scorer = labelling.scorers[modality]
        if scorer is None:
            lines.append(f"{modality}: no teacher; a clip's labels are on in all of its segments")
        elif scorer.without:
            listed = ", ".join(scorer.without)
            lines.append(f"{modality}: the teacher has no counterpart of {listed}: these labels are on in all segments of their clips")
        if teacher.never:
            lines.append(f"{modality}: never on: {', '.join(teacher.never)}")
        if teacher.searches:
            lines.append(f"{modality}: {DENSE}: runs on these labels have used them")
    if labelling.without:
        lines.append(f"{len(labelling.without)} clips keep their labels in all segments, as the teachers lack them")
    return lines


def quality_lines(split: str, scores: dict[str, Any]) -> list[str]:
    """Two lines on a split: the labels, and the clip's labels in all segments."""
    lines = []
    for name, words in (("labels", "labels"), ("clip_label", "the clip's labels everywhere")):
        of_name = scores[name]
        segment = " ".join(f"{key.removeprefix('segment/')} {of_name[key]:.1f}" for key in SHOWN if key.startswith("segment/"))
        f1 = ", ".join(f"{modality} {_shown(of_name[modality])}" for modality in MODALITIES)
        lines.append(f"{split}, {words}: segment {segment}; precision/recall/F1 {f1}")
    return lines


def _shown(rates: dict[str, float | None]) -> str:
    return "/".join("–" if value is None else f"{value:.1f}" for value in rates.values())
