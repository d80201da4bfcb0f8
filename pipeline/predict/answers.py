"""Predictions of several files: a folder of answers for each, and a short table."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from pipeline.disk import disk_fault, name_place
from pipeline.errors import PipelineError
from pipeline.predict.outputs import check_replaceable, write_overlay, write_prediction
from pipeline.predict.prediction import Prediction
from pipeline.predict.predictor import Predictor, load_run
from pipeline.publish import replace
from pipeline.report.timeline import clock
from pipeline.scratch import Scratch
from pipeline.tasks.tracks import in_words
from pipeline.text import printable

ALL, SOME, NONE = 0, 1, 2  # exit codes: how many of the files were answered whole


def answer(files: list[Path], run_name: str, seed: int | None, out: Path, overlay: bool) -> int:
    """Predict every file; one that cannot be is told on stderr and keeps no other from its answer. Returns the exit code.

    0: all answered. 1: some, or a part of one, could not be; the others are written. 2: none.

    Raises:
        PipelineError: the run cannot predict at all; no file was looked at.
    """
    predictor = load_run(run_name, seed)
    whole = answered = 0
    for path, name in zip(files, folders(files), strict=True):
        directory = out / name
        try:
            prediction = one(predictor, path, directory, overlay)
        except Exception as error:
            _tell(path, error, out)
            continue
        answered += 1
        whole += not prediction.problems
        print(table(prediction, directory), flush=True)
        for problem in prediction.problems:
            print(f"predict: {printable(str(path))}: not answered from {problem}", file=sys.stderr, flush=True)
    return NONE if not answered else ALL if whole == len(files) else SOME


def one(predictor: Predictor, path: Path, directory: Path, overlay: bool) -> Prediction:
    """Predict one file and write its folder, whole: an older one of that name is replaced with all that is in it.

    Raises:
        PipelineError: the file cannot be predicted, or what stands at ``directory`` is no prediction's.
    """
    check_replaceable(directory)
    name = printable(path.name)
    with _Bar(name) as bar:
        prediction = predictor.predict(path, bar)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with Scratch(".predict-", directory.parent) as work:
        answers = work / "answers"
        answers.mkdir()
        try:
            write_prediction(prediction, answers)
            if overlay:
                with _Bar(f"{name}, overlay") as bar:
                    write_overlay(prediction, predictor.media, predictor.cache, answers / "overlay.mp4", bar)
        except OSError as error:
            name_place(error, directory)
            raise
        check_replaceable(directory)
        replace(answers, directory)
    return prediction


def _tell(path: Path, error: Exception, out: Path) -> None:
    """Say why a file has no answer. A fault of this program keeps its traceback, and the other files their answers."""
    name = printable(str(path))
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, PipelineError):
        sentence = str(error)
    elif (sentence := disk_fault(error, out) or "") or isinstance(error, OSError):
        sentence = f"{name}: {sentence or error}"
    else:
        traceback.print_exception(error)
        sentence = f"{name}: not answered, by a fault of this program ({type(error).__name__}, above)"
    print(f"predict: {sentence}", file=sys.stderr, flush=True)


def folders(files: list[Path]) -> list[str]:
    """A name for the folder of each file: its stem; its whole name where stems repeat; numbered where names do.

    Every name can be one of a folder in ``--out``, and be typed: no leading dots, and "_" for what is not printable or not UTF-8.
    """
    stems = Counter(_safe(path.stem, path) for path in files)
    names: list[str] = []
    for path in files:
        stem = _safe(path.stem, path)
        plain = name = stem if stems[stem] == 1 else _safe(path.name, path)
        number = 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def _safe(name: str, path: Path) -> str:
    """A name such as "." or "..", the stem of "...mp4", would be the folder ``--out`` itself, or the one above it."""
    visible = name.lstrip(".") or path.name.lstrip(".") or "film"
    return "".join(letter if letter.isprintable() else "_" for letter in visible)


def table(prediction: Prediction, directory: Path) -> str:
    """The events of one file as people read them."""
    lines = [f"{printable(prediction.path.name)}: {clock(prediction.seconds)}, {prediction.run} seed {prediction.seed} -> {directory}"]
    lines += [
        f"  {clock(event.start):>9} - {clock(event.end):<9} {event.score:5.2f}  {in_words(event.modality):12}  {event.label}"
        for event in prediction.events
    ]
    if not prediction.events:
        lines.append("  no event")
    return "\n".join(lines)


class _Bar:
    """A progress bar over windows, whose number is known only once the file has been looked at; shown on a terminal only."""

    def __init__(self, name: str) -> None:
        self.bar = tqdm(desc=name, unit="window", disable=None, leave=False)

    def __enter__(self) -> Callable[[int, int], None]:
        return self._advance

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def _advance(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)
