"""Write a suite's page from its clone: how it was made, and its report's tables without training times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from pipeline import config
from pipeline.config import Params
from pipeline.datasets import read_index
from pipeline.datasets.folds import Folds, read_folds
from pipeline.git import commit_of
from pipeline.labels.quality import MODALITIES, SHOWN
from pipeline.report.contents import Contents, contents
from pipeline.report.formats import markdown
from pipeline.report.results import read_runs
from pipeline.report.tables import NOTHING, Table
from pipeline.results.clones import read_time
from pipeline.sealed import read_sealed
from pipeline.text import duration

RUNS, INDEX, FOLDS = Path("data/results/runs"), Path("data/index"), Path("data/folds")
LABELS, ENCODERS = Path("data/results/labels"), Path("models/encoders")
SPLITS = {"train": "train", "val": "validation", "test": "test"}
WAYS = {"labels": "as made", "clip_label": "the clip's labels in all segments"}
MOMENTS = {"before": "frozen", "after": "fine-tuned"}
DIGITS = (
    "A second run gives these digits on the same kind of processor with the same versions, and not elsewhere. The number of cores does not"
    " matter: training, fine-tuning and encoding run on one thread each."
)


def page(suite: str, clone: Path) -> str:
    """The page of a suite whose clone is finished, without a mark of its age."""
    params = config.load(clone / "params.yaml")
    rows, classes = read_index(clone / INDEX)
    results = read_runs(params.runs, clone / RUNS, clone / "dvclive")
    for result in results:
        result.seconds = []  # a training takes another time each time
    found = contents(results, params.report, {name: params.method_settings(name) for name in params.runs}, classes)
    facts = {
        "Made again by": f"`python -m pipeline results {suite}`",
        "Commit": f"`{commit_of(clone)[:12]}`",
        "Clips": f"{clips_of(rows, read_folds(clone / FOLDS) if params.dataset.folds else None)}; {len(classes)} classes",
        "Machine": found.machines.removeprefix("Made on: ").removesuffix("."),
        "Wall time": wall_time(clone, params),
    }
    parts = [
        f"# {params.report.title}\n",
        "<!-- state -->\n<!-- /state -->\n",
        f"[All results](../results.md) · `suites/{suite}.yaml`\n",
        f"{words_of(clone / 'suites' / f'{suite}.yaml')}\n",
        "| | |\n|---|---|\n" + "".join(f"| {name} | {value or NOTHING} |\n" for name, value in facts.items()),
        f"{DIGITS}\n",
        *tables(found),
        *(f"## {title}\n\n{markdown(table)}" for title, table in beside(params, clone)),
        *(folded(title, table) for title, table in found.classes.items()),
    ]
    return "\n".join(parts)


def clips_of(index: pd.DataFrame, folds: Folds | None) -> str:
    """How many clips each split has, or all folds together."""
    if folds is not None:
        return f"{len(folds.clips)}, each tested once in {folds.number} folds"
    return ", ".join(f"{count} {word}" for split, word in SPLITS.items() if (count := (index["split"] == split).sum()))


def tables(found: Contents) -> Iterator[str]:
    """The results, between marks because other pages cut them out, and the report's further tables."""
    trivial = f"\n{found.baselines}\n" if found.baselines else ""
    yield f"## Results\n\n<!-- results -->\n{markdown(found.results)}{trivial}<!-- /results -->\n"
    for title, table in found.further.items():
        yield f"## {title}\n\n{markdown(table)}"


def beside(params: Params, clone: Path) -> Iterator[tuple[str, Table]]:
    """Further tables: the quality of label sets, and the recall of fine-tuned encoders."""
    if params.labels:
        lines = [line for name in params.labels for line in quality_lines(name, read_sealed(clone / LABELS / name / "quality.json"))]
        scores = [f"{level.capitalize()} {score}" for level, score in (key.split("/") for key in SHOWN)]
        rates = [f"{modality.capitalize()} {rate}" for modality in MODALITIES for rate in ("precision", "recall", "F1")]
        note = "Scores of parsing in percent, clip by clip; precision, recall and F1 of all segments and classes together."
        yield "Labels of segments", Table(["Label set", "Split", "Labels", *scores, *rates], lines, [note])
    if params.finetune:
        lines = [line for name in params.finetune for line in recall_lines(name, read_sealed(clone / ENCODERS / name / "finetune.json"))]
        heads = ["Entry", "Validation clips", "Encoder", "Recall@1", "Recall@5", "Recall@10", "Median rank", "Loss"]
        note = "Recall in percent and rank: the mean of both directions, sound to picture and picture to sound. One seed."
        yield "Fine-tuned encoders", Table(heads, lines, [note])


def quality_lines(name: str, quality: dict[str, Any]) -> Iterator[list[str]]:
    """One line by split for the labels, and one for the trivial answer."""
    for split, by_way in quality.items():
        for way, word in WAYS.items():
            scores = by_way[way]
            rates = [scores[modality][rate] for modality in MODALITIES for rate in ("precision", "recall", "f1")]
            shown = [NOTHING if value is None else f"{value:.1f}" for value in (*(scores[key] for key in SHOWN), *rates)]
            yield [name, SPLITS.get(split, split), word, *shown]


def recall_lines(name: str, finetuned: dict[str, Any]) -> Iterator[list[str]]:
    """One line for the frozen encoder, and one for the fine-tuned."""
    for moment, word in MOMENTS.items():
        of_moment = finetuned["val"][moment]
        means = [fmean(of_moment[f"{way}/{key}"] for way in ("a2v", "v2a")) for key in ("recall@1", "recall@5", "recall@10", "median_rank")]
        cells = [f"{mean:.1f}" for mean in means[:3]] + [f"{means[3]:.2f}", f"{of_moment['loss']:.2f}"]
        yield [name, str(finetuned["clips"]["val"]), word, *cells]


def folded(title: str, table: Table) -> str:
    """A long table behind its title."""
    return f"<details><summary>{title}</summary>\n\n{markdown(table)}\n</details>\n"


def words_of(suite: Path) -> str:
    """What the comment at the head of a suite says."""
    lines = []
    for line in suite.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return "\n".join(lines)


def wall_time(clone: Path, params: Params) -> str:
    """Seconds of all calls of `dvc repro`; empty if none was recorded."""
    taken = read_time(clone)
    if not taken["calls"]:
        return ""
    calls = "" if taken["calls"] == 1 else f", {taken['calls']} calls together"
    return f"{duration(taken['seconds'])}{calls}; seeds trained at once: {params.machine.seeds_at_once}"
