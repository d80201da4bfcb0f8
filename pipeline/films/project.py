"""Make a project for some films: a clone of this repository with params.yaml and labels.csv made for them."""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import config
from pipeline.closure import ROOT
from pipeline.datasets.base import Row, Split
from pipeline.datasets.folder import find_films, split_lines
from pipeline.datasets.labels import ClipNames
from pipeline.errors import InputProblems, PipelineError
from pipeline.films.fit import Fit, fit, fit_windows, fitted, learnable, yamnet_weights
from pipeline.films.labels import FilmLabels, read_film_labels
from pipeline.films.lost import lost_lines
from pipeline.films.splits import draw_splits
from pipeline.git import changed_files, git
from pipeline.media.length import Length, film_lengths
from pipeline.media.settings import MediaSettings
from pipeline.publish import publishing

LABELS, PARAMS = "labels.csv", "params.yaml"
NOBODY = ("-c", "user.name=avel-pipeline", "-c", "user.email=avel-pipeline@localhost")  # where git knows no user


@dataclass
class Films:
    """The films of a directory.

    lengths: by clip, of those that can be read.
    bad_share: share of those that cannot.
    notes: sentences for the user.
    """

    directory: Path
    lengths: dict[str, float]
    bad_share: float
    labels: FilmLabels
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(self.lengths.values())


def new_project(directory: Path, clips: Path, labels: Path | None, tier: str | None = None, seed: int = 0) -> list[str]:
    """Make a project for the films below ``clips`` in the new directory ``directory``.

    Args:
        labels: a file or folder (:mod:`pipeline.films.labels`); None: those beside the films, if any.
        tier: ELAN's tier or VIA's attribute to read alone.
        seed: decides which films are trained on where the labels give no splits.

    Returns:
        Lines for the user, the last ones the next command.

    Raises:
        InputProblems: the directory is in use, there are no films, or labels are faulty; all problems of an input at once.
        PipelineError: this is no git checkout, or git fails.
    """
    check_free(directory, clips)
    films = read_films(clips, labels, tier)
    splits = film_splits(films, seed)
    windowing, windows = fit_windows(films.lengths.values(), [event for events in films.labels.events.values() for event in events])
    chosen = fit(windowing, windows, [seconds for clip, seconds in films.lengths.items() if splits.get(clip) == "train"])
    why_not = learnable({clip: split for clip, split in splits.items() if clip in films.lengths}, films.labels.classes)
    if films.labels.events and why_not:
        raise InputProblems("labels", [f"{why_not}; three films or more with labels are needed, one for each of train, val and test"])
    with publishing(directory) as work:
        note = clone(work)
        if films.labels.events:
            (work / LABELS).write_text(labels_csv(films.labels, splits), encoding="utf-8")
        write_params(work, chosen, films, directory.name)
        commit(work)
    return summary(films, splits, chosen, directory, [*films.notes, *films.labels.notes, *([note] if note else [])])


def check_free(directory: Path, clips: Path) -> None:
    """Check that the directory is new, and that the films are elsewhere.

    Raises:
        InputProblems: it holds files, which are never overwritten.
    """
    problems = []
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        problems.append(f"{directory} holds files, which are not overwritten; name a new directory")
    if not clips.is_dir():
        problems.append(f"--clips {clips}: no such directory")
    if directory.resolve() == Path.cwd():
        problems.append("a new directory is needed, and not the one you are in; name one")
    elif clips.resolve().is_relative_to(directory.resolve()):
        problems.append(f"--clips {clips} lies in {directory}; the project needs a directory of its own")
    if problems:
        raise InputProblems("new", problems)


def read_films(clips: Path, labels: Path | None, tier: str | None) -> Films:
    """Find the films, their lengths and their labels.

    Raises:
        InputProblems: no film can be read, or labels are faulty.
    """
    paths, left_out = find_films(clips)
    if not paths:
        raise InputProblems(str(clips), ["no file with a video's ending lies there", *left_out])
    settings = MediaSettings(workers=_cores())
    by_file = film_lengths([str(path) for path in paths.values()], settings)
    found: dict[str, Length] = {clip: by_file[str(path)] for clip, path in paths.items()}
    lengths = {clip: length.seconds for clip, length in found.items() if length.seconds is not None}
    if not lengths:
        raise InputProblems(str(clips), [f"{clip}: {length.reason}" for clip, length in found.items()])
    notes = [f"{clip} cannot be read and takes no part: {length.reason}" for clip, length in found.items() if length.seconds is None]
    names = ClipNames(paths)
    known = {clip: length.seconds for clip, length in found.items()}
    read = read_film_labels(labels if labels is not None else clips, names, known, tier, beside=labels is None)
    if read.events and (unlabelled := [clip for clip in lengths if clip not in read.events]):
        notes.append(f"{len(unlabelled)} films have no labels and are not trained on: {', '.join(unlabelled[:10])}")
    return Films(clips, lengths, (len(paths) - len(lengths)) / len(paths), read, notes)


def film_splits(films: Films, seed: int) -> dict[str, Split]:
    """The split of every labelled film: as the labels give it for all, else drawn.

    Films that cannot be read take no part in a draw: theirs is ``none``.

    Raises:
        InputProblems: only some films have one.
    """
    labels = films.labels
    if labels.splits and (without := [clip for clip in labels.events if clip not in labels.splits]):
        raise InputProblems("labels", [f"{clip}: no split, but other films have one; give all films a split, or none" for clip in without])
    readable = {clip: {event.label for event in events} for clip, events in labels.events.items() if clip in films.lengths}
    unread: dict[str, Split] = dict.fromkeys(labels.events.keys() - readable.keys(), "none")
    return labels.splits or unread | draw_splits(readable, seed)


def clone(directory: Path) -> str | None:
    """Clone this repository's current commit into an empty directory; returns a note if it has changes that are not committed.

    Raises:
        PipelineError: it is no git checkout.
    """
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        raise PipelineError(f"{ROOT} is no git checkout, or git is not installed: get the project by `git clone`, and run this from it")
    git(ROOT, "clone", "--quiet", str(ROOT), str(directory.absolute()))
    changed = [path for path in changed_files(ROOT) if path != PARAMS]
    shown = ", ".join(changed[:5]) + (" ..." if len(changed) > 5 else "")
    return f"changes of {ROOT} that are not committed are not in the project: {shown}" if changed else None


def write_params(work: Path, chosen: Fit, films: Films, title: str) -> None:
    """Write params.yaml from the suite for films with or without labels, and check it.

    Raises:
        InputProblems: the settings do not fit the schema.
    """
    yaml = YAML()
    yaml.width = 1000
    with_labels = bool(films.labels.events)
    suite: Any = yaml.load((ROOT / "suites" / ("own-clips.yaml" if with_labels else "clips.yaml")).read_text(encoding="utf-8"))
    place = films.directory.resolve()
    suite["media"]["max_bad_fraction"] = max(suite["media"]["max_bad_fraction"], math.ceil(films.bad_share * 100) / 100)  # known, and said
    fitted(suite, chosen, place, Path(LABELS) if with_labels else place, title, _cores(), yamnet_weights(ROOT / "models" / "pretrained"))
    with open(work / PARAMS, "w", encoding="utf-8") as stream:
        yaml.dump(suite, stream)
    config.load(work / PARAMS)


def labels_csv(labels: FilmLabels, splits: Mapping[str, Split]) -> str:
    """The labels as the data set `folder` reads them: one line per event, or one for a film without."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "split", "label", "onset", "offset", "modality"])
    for clip, events in sorted(labels.events.items()):
        lines = [[event.label, f"{event.onset:.10g}", f"{event.offset:.10g}", event.modality] for event in events]
        writer.writerows([clip, splits[clip], *line] for line in lines or [["", "", "", ""]])
    return text.getvalue()


def commit(work: Path) -> None:
    """Commit what was made, so that experiments of DVC, which run in copies of what is committed, find it."""
    known = subprocess.run(["git", "-C", str(work), "config", "user.email"], capture_output=True, check=False).returncode == 0
    git(work, "add", "--force", PARAMS, *[LABELS] * (work / LABELS).is_file())
    git(work, *(() if known else NOBODY), "commit", "--quiet", "--message", "Start a project for these films")


def summary(films: Films, splits: Mapping[str, Split], chosen: Fit, directory: Path, notes: list[str]) -> list[str]:
    """What was found and chosen, and the next command."""
    events = [event for of_film in films.labels.events.values() for event in of_film]
    window, cut = chosen.windowing, chosen.windows == "all"
    lines = [
        f"films:   {len(films.lengths)}, {films.seconds:.0f} s in all",
        f"windows: {window.segments} segments of {window.segment_seconds:g} s" + ("; longer films become several clips" if cut else ""),
    ]
    if events:
        counts = {split: sum(given == split for given in splits.values()) for split in ("train", "val", "test")}
        lines += [
            f"labels:  {len(events)} events of {len(films.labels.classes)} classes ({', '.join(films.labels.classes)})",
            f"splits:  {', '.join(f'{count} films {split}' for split, count in counts.items())}"
            f" ({'as given' if films.labels.splits else 'drawn by film'})",
            f"recipe:  batches of {chosen.batch_size}, {chosen.epochs} epochs, for {chosen.clips} training clips",
        ]
        rows = [Row(clip, splits[clip], clip, tuple(of_film)) for clip, of_film in films.labels.events.items()]
        lost = lost_lines(films.labels.events, films.lengths, chosen, films.labels.tiers)
        notes = [*split_lines(rows, films.labels.classes), *lost, *notes]
    lines += [f"note:    {note}" for note in notes]
    made = f"{PARAMS} (checked)" + (f" and {LABELS}" if events else "")
    return [*lines, f"made:    {directory}, a clone of {ROOT} with {made}", "next:", f"  {next_command(directory, bool(events))}"]


def next_command(directory: Path, with_runs: bool) -> str:
    """The command that runs the project, with this Python's programs first on the path where they are not."""
    programs = Path(sys.executable).parent
    found = shutil.which("dvc")
    path = "" if found and Path(found).parent == programs else f'PATH="{programs}:$PATH" && '
    return f'cd "{directory}" && {path}dvc repro' + (" && python -m pipeline table" if with_runs else "")


def _cores() -> int:
    return max(1, min(8, len(os.sched_getaffinity(0))))
