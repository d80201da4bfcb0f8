"""Write a demo world's truth in the layouts of AVE (one event per clip) and LLP, or of UnAV-100."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.synth.plan import CATEGORIES, SECONDS, SPLITS, ClipPlan

UNAV = "unav100_annotations.json"
SUBSETS = {"train": "train", "val": "validation", "test": "test"}
FILES = ("categories.txt", "Annotations.txt", "spans.csv", *(f"{split}{end}" for split in SPLITS for end in ("Set.txt", ".csv")),
         "eval_audio.csv", "eval_visual.csv", UNAV)  # fmt: skip
_AVE_HEADER = "Category&VideoID&Quality&StartTime&EndTime"


def write_annotations(root: Path, plans: list[ClipPlan]) -> None:
    """Write every annotation file of a world of the kind ``single`` into ``root``.

    ``Annotations.txt`` (with its header), ``trainSet.txt`` ... and ``categories.txt`` are AVE's; ``train.csv`` ... (labels of a
    clip) and ``eval_audio.csv``, ``eval_visual.csv`` (spans, val and test) are LLP's, tab separated, file names ``ID_0_10``;
    ``spans.csv`` is the whole truth, comma separated.
    """
    _write(root / "categories.txt", CATEGORIES)
    _write(root / "Annotations.txt", [_AVE_HEADER, *map(_ave_row, sorted(plans, key=lambda plan: plan.event.category))])
    for split in SPLITS:
        own = [plan for plan in plans if plan.split == split]
        _write(root / f"{split}Set.txt", map(_ave_row, own))
        _write(root / f"{split}.csv", ["filename\tevent_labels", *map(_label_row, own)])
    evaluated = [plan for plan in plans if plan.split != "train"]
    for modality in ("audio", "visual"):
        rows = [row for plan in evaluated for row in _span_rows(plan, modality)]
        _write(root / f"eval_{modality}.csv", ["filename\tonset\toffset\tevent_labels", *rows])
    _write_truth(root, plans)


def write_dense_annotations(root: Path, plans: list[ClipPlan]) -> None:
    """Write ``unav100_annotations.json``, and the whole truth as ``spans.csv``, of a dense world into ``root``."""
    database = {
        plan.id: {
            "duration": float(plan.seconds),
            "subset": SUBSETS[plan.split],
            "annotations": [
                {"segment": [span.onset, span.offset], "label": CATEGORIES[span.category], "label_id": span.category}
                for span in sorted(plan.events, key=lambda span: span.onset)
            ],
        }
        for plan in plans
    }
    text = json.dumps({"version": "synthetic", "database": database}, indent=1)
    (root / UNAV).write_text(text + "\n", encoding="utf-8", newline="\n")
    _write_truth(root, plans)


def _write_truth(root: Path, plans: list[ClipPlan]) -> None:
    """Write ``spans.csv``, last of all: a world that has it is complete."""
    _write(root / "spans.csv", ["id,split,modality,class,onset,offset,main", *(row for plan in plans for row in _truth_rows(plan))])


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _ave_row(plan: ClipPlan) -> str:
    return f"{CATEGORIES[plan.event.category]}&{plan.id}&good&{plan.event.onset}&{plan.event.offset}"


def _label_row(plan: ClipPlan) -> str:
    """All classes audible or visible anywhere in the clip, the main event's first."""
    others = {span.category for span in plan.spans} - {plan.event.category}
    return f"{plan.id}_0_{SECONDS}\t" + ",".join(CATEGORIES[c] for c in (plan.event.category, *sorted(others)))


def _span_rows(plan: ClipPlan, modality: str) -> list[str]:
    return [f"{plan.id}_0_{SECONDS}\t{span.onset}\t{span.offset}\t{CATEGORIES[span.category]}" for span in plan.of(modality)]


def _truth_rows(plan: ClipPlan) -> list[str]:
    """Audio, visual and av spans of a clip; the last field is 1 for the class of its first event."""
    main = plan.event.category
    return [
        f"{plan.id},{plan.split},{span.modality},{CATEGORIES[span.category]},{span.onset},{span.offset},{int(span.category == main)}"
        for span in (*plan.spans, *plan.events)
    ]
