"""Score trivial answers on the published annotations, which need no features: ``python -m benchmarks.trivial ANNOTATIONS``.

ANNOTATIONS holds the folders ``ave`` (Annotations.txt, splits, CMBS's order files), ``llp`` (AVVP_*.csv) and ``unav100``
(unav100_annotations.json), as docs/data.md names the files; a data set that is missing is left out. Numbers are percentages of each test
split, by the code that scores methods; the priors of parsing have learned from validation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.datasets import DatasetSettings, build_index
from pipeline.datasets.base import NO_CLIPS, Index
from pipeline.datasets.segments import occupied
from pipeline.metrics.detection import Spans, match, mean_precisions
from pipeline.metrics.segment_runs import spans_of_runs
from pipeline.report.formats import markdown
from pipeline.report.tables import Table
from pipeline.tasks import TASKS, dave
from pipeline.tasks.base import Task

Line = tuple[str, Sequence[float]]
ANSWERS = {
    "nothing": "nothing",
    "weak_label": "the clip's labels everywhere",
    "class_prior": "those that are on in 25 % of their seconds",
    "majority_prior": "those that are on in 50 %",
}
SPAN_ANSWERS = {
    "every_class_whole_clip": "every class, the whole clip",
    "true_classes_whole_clip": "the clip's true classes, the whole clip",
    "true_classes_hull": "the clip's true classes, from the first event to the last",
}
PARSED = [f"{level}/{key}" for level in ("segment", "event") for key in ("A", "V", "AV", "Type@AV", "Event@AV")]


def truth_of(task: Task, index: Index, settings: DatasetSettings, split: str) -> tuple[Any, Tensor]:
    """(the targets of a split's annotation rows, the mask (N, T) of their segments)."""
    window = settings.segments * settings.segment_seconds
    rows = [row for row in index.rows if row.split == split]
    seconds = [window if row.seconds is None else row.seconds for row in rows]
    events = [[asdict(event) for event in row.events] for row in rows]
    told = [row.clip_labels for row in rows]
    grid = (index.classes, settings.segments, settings.segment_seconds)
    targets = task.row_targets(events, *grid, clip_labels=told, rule=settings.segment_rule, seconds=seconds)
    starts = torch.arange(settings.segments) * settings.segment_seconds
    return targets, starts < torch.tensor(seconds)[:, None]


def localization(folder: Path) -> Iterator[Line]:
    settings = DatasetSettings(kind="ave", clips=NO_CLIPS, annotations=folder, segments=10, segment_seconds=1.0)
    index = build_index(settings)
    truth, mask = truth_of(TASKS.get("avel"), index, settings, "test")
    scores = TASKS.get("avel").score(torch.zeros(mask.shape, dtype=torch.int64), truth, mask, len(index.classes), 1.0)
    yield "background", [scores["baseline_background"]]
    yield "the clip's true class everywhere", [scores["baseline_oracle_class"]]


def matching(folder: Path) -> Iterator[Line]:
    settings = DatasetSettings(kind="ave", clips=NO_CLIPS, annotations=folder, segments=10, segment_seconds=1.0, split="match")
    index = build_index(settings)
    truth, mask = truth_of(TASKS.get("cml"), index, settings, "test")
    answers = torch.zeros(len(mask), 2, 10, 10, dtype=torch.int64)
    scores = TASKS.get("cml").score(answers, truth, mask, len(index.classes), 1.0)
    for name in ("first", "last", "chance"):
        yield f"{name} window" if name != "chance" else name, [scores[f"baseline_{name}"], scores[f"baseline_{name}_iou"]]


def parsing(folder: Path) -> Iterator[Line]:
    settings = DatasetSettings(kind="llp", clips=NO_CLIPS, annotations=folder, segments=10, segment_seconds=1.0)
    index, task = build_index(settings), TASKS.get("avvp")
    truth, mask = truth_of(task, index, settings, "test")
    nothing = torch.zeros(len(mask), 2, 10, len(index.classes), dtype=torch.bool)
    found = task.score(nothing, truth, mask, len(index.classes), 1.0)["trivial"]
    learned = task.prior_scores(truth, mask, *truth_of(task, index, settings, "val"))
    for name, words in ANSWERS.items():
        left_out = [f"{index.classes[number]} ({modality})" for modality, of in learned["never"].get(name, {}).items() for number in of]
        yield f"{words}{': without ' if left_out else ''}{', '.join(left_out)}", [(found | learned["trivial"])[name][key] for key in PARSED]


def dense(folder: Path) -> Iterator[Line]:
    file = folder / "unav100_annotations.json"
    settings = DatasetSettings(kind="unav100", clips=NO_CLIPS, annotations=file, segments=224, segment_seconds=0.32)
    index = build_index(settings)
    truth, _ = truth_of(TASKS.get("dave"), index, settings, "test")
    true = [Spans(spans[labels >= 0], labels[labels >= 0]) for spans, labels in zip(truth.spans.numpy(), truth.labels.numpy(), strict=True)]
    answers = {SPAN_ANSWERS[name]: answer for name, answer in dave.scores.trivial(truth, len(index.classes))}
    for length in (1.0, 0.32):
        answers[f"the truth itself on segments of {length:g} s"] = on_segments(index, truth.seconds, length)
    for words, answer in answers.items():
        means = mean_precisions(match(answer, true, len(index.classes)))
        yield words, [means[key] for key in ("mAP@0.5", "mAP@0.9", "mAP")]


def on_segments(index: Index, seconds: Tensor, length: float) -> list[Spans]:
    """The true events of each test clip, as runs of segments of that length, cut off at the clip's end."""
    found = []
    for row, end in zip((row for row in index.rows if row.split == "test"), seconds.tolist(), strict=True):
        table = occupied(row.events, index.classes, "av", int(np.ceil(end / length)), length).T.astype(np.float32)
        runs = spans_of_runs(table, np.ones(len(index.classes)), (0.5,))
        found.append(Spans((runs.spans * length).clip(max=end).astype(np.float32), runs.labels, runs.scores))
    return found


TABLES: Mapping[str, tuple[str, Sequence[str], Callable[[Path], Iterator[Line]]]] = {
    "Localization, AVE": ("ave", ["accuracy"], localization),
    "Cross-modality localization, AVE": ("ave", ["exact start", "mean overlap"], matching),
    "Parsing, LLP": ("llp", PARSED, parsing),
    "Dense localization, UnAV-100": ("unav100", ["mAP@0.5", "mAP@0.9", "mAP"], dense),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    annotations = parser.parse_args().annotations
    for title, (name, columns, lines) in TABLES.items():
        if not (annotations / name).is_dir():
            print(f"{title}: no {annotations / name}\n")
            continue
        found = [[words, *(f"{value:.1f}" for value in values)] for words, values in lines(annotations / name)]
        print(f"{title}:\n\n{markdown(Table(['answer', *columns], found))}")


if __name__ == "__main__":
    main()
