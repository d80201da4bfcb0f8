"""List defects of LLP's files that do not stop a run, by file and line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets.base import DatasetSettings, Row, count_lines
from pipeline.text import read_text

if TYPE_CHECKING:
    from pipeline.datasets.llp import DenseLine, Files, WeakLine


def health(files: Files, rows: list[Row], directory: Path, settings: DatasetSettings) -> list[str]:
    """All health lines, the version of the audio truth first."""
    weak = {line.name: line for lines in files.weak.values() for line in lines}
    evaluated = {line.name: line for split in ("val", "test") for line in files.weak[split]}
    report = [f"audio truth: {files.audio_truth}", *weak_defects(list(weak.values()), settings.segments * settings.segment_seconds)]
    for modality, lines in files.dense.items():
        report += dense_defects(modality, lines, weak, evaluated)
    report += disagreements(files, evaluated)
    report += full_list(directory / "AVVP_dataset_full.csv", set(weak))
    if settings.has_clips:
        report += count_lines("clips without a file", [row.clip for row in rows if row.file is None])
    return report


def weak_defects(lines: list[WeakLine], seconds: float) -> list[str]:
    lengths = {line: float(line.parts["end"]) - float(line.parts["start"]) for line in lines}
    report = count_lines(f"clips that are not {seconds:g} s long", [line.name for line in lines if abs(lengths[line] - seconds) > 1e-6])
    fractional = [line.name for line in lines if "." in line.parts["start"] + line.parts["end"]]
    report += count_lines("clips cut at fractions of a second", fractional)
    repeats = [f"{line.name} line {line.number}" for line in lines if len(set(line.labels)) < len(line.labels)]
    return report + count_lines("clips that list a label twice", repeats)


def dense_defects(modality: str, lines: list[DenseLine], weak: dict[str, WeakLine], evaluated: dict[str, WeakLine]) -> list[str]:
    """List one modality's lines that match no clip, have no length, or overlap or touch another of their class."""

    def name(found: list[DenseLine]) -> list[str]:
        return [f"{line.name} line {line.number}" for line in found]

    report = count_lines(f"{modality} lines that match no clip, lost", name([line for line in lines if line.name not in weak]))
    training = [line for line in lines if line.name in weak and line.name not in evaluated]
    report += count_lines(f"{modality} lines of training clips, not used", name(training))
    empty = [line for line in lines if line.event.onset >= line.event.offset]
    report += count_lines(f"{modality} lines whose onset is not before their offset, no segment", name(empty))
    overlapping, touching = _neighbours([line for line in lines if line.event.onset < line.event.offset])
    report += count_lines(f"{modality} lines that overlap another of their class", name(overlapping))
    report += count_lines(f"{modality} lines that touch another of their class, one event", name(touching))
    named = {line.name for line in lines}
    return report + count_lines(f"val and test clips without {modality} lines", [clip for clip in evaluated if clip not in named])


def _neighbours(lines: list[DenseLine]) -> tuple[list[DenseLine], list[DenseLine]]:
    """Lines that overlap the one before, and lines that start at its end, by clip and class."""
    groups: dict[tuple[str, str], list[DenseLine]] = defaultdict(list)
    for line in lines:
        groups[line.name, line.event.label].append(line)
    overlapping, touching = [], []
    for group in groups.values():
        group.sort(key=lambda line: (line.event.onset, line.event.offset))
        for before, line in pairwise(group):
            if line.event.onset < before.event.offset:
                overlapping.append(line)
            elif line.event.onset == before.event.offset:
                touching.append(line)
    return overlapping, touching


def disagreements(files: Files, evaluated: dict[str, WeakLine]) -> list[str]:
    """List contradictions between the classes of a clip and its spans."""
    lines = [line for of_modality in files.dense.values() for line in of_modality if line.name in evaluated]
    surplus = [f"{line.name} {line.event.label}" for line in lines if line.event.label not in evaluated[line.name].labels]
    report = count_lines("lines whose class is not among the clip's labels", surplus)
    spanned = {(line.name, line.event.label) for line in lines}
    return report + count_lines("labels of a clip without any line", list(_without(evaluated, spanned)))


def _without(evaluated: dict[str, WeakLine], spanned: set[tuple[str, str]]) -> Iterator[str]:
    for name, line in evaluated.items():
        for label in dict.fromkeys(line.labels):
            if (name, label) not in spanned:
                yield f"{name} {label}"


def full_list(path: Path, names: set[str]) -> list[str]:
    """List differences from the list of all clips, if it exists."""
    if not path.is_file():
        return []
    full = {text.split("\t")[0] for text in read_text(path).splitlines()[1:] if text.strip()}
    return count_lines(f"clips of {path.name} in no split", sorted(full - names)) + count_lines(
        f"clips that {path.name} does not list", sorted(names - full)
    )
