"""Predict several files: a folder of results for each, and a short table."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from pipeline.disk import disk_fault, name_place
from pipeline.errors import PipelineError
from pipeline.predict.outputs import FILES, write_overlay, write_prediction
from pipeline.predict.prediction import Prediction
from pipeline.predict.predictor import Predictor
from pipeline.progress import Progress
from pipeline.publish import check_replaceable, replace
from pipeline.report.timeline import clock
from pipeline.scratch import Scratch
from pipeline.tasks.tracks import in_words
from pipeline.text import distinct_names, printable

ALL, SOME, NONE = 0, 1, 2  # exit codes: how many of the files were predicted completely


def answer(files: list[Path], predictor: Predictor, out: Path, overlay: bool) -> int:
    """Predict every file; report failures on stderr and carry on with the rest.

    Returns:
        Exit code: 0 if all files were predicted completely, 1 if some files or parts of a file were not, 2 if none was predicted.
    """
    whole = answered = 0
    for path, name in zip(files, distinct_names(files), strict=True):
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
            print(f"predict: {printable(str(path))}: no prediction from {problem}", file=sys.stderr, flush=True)
    return NONE if not answered else ALL if whole == len(files) else SOME


def one(predictor: Predictor, path: Path, directory: Path, overlay: bool) -> Prediction:
    """Predict one file and write its folder as a whole, replacing an older one of that name.

    Raises:
        PipelineError: the file cannot be predicted, or ``directory`` exists and is not the folder of a prediction.
    """
    check_replaceable(directory, FILES, "the folder of a prediction")
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
                    write_overlay(prediction, predictor.media_of(path), predictor.cache, answers / "overlay.mp4", bar)
        except OSError as error:
            name_place(error, directory)
            raise
        check_replaceable(directory, FILES, "the folder of a prediction")
        replace(answers, directory)
    return prediction


def _tell(path: Path, error: Exception, out: Path) -> None:
    """Print why a file was not predicted; a fault of this program also prints its traceback."""
    name = printable(str(path))
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, PipelineError):
        sentence = str(error)
    elif (sentence := disk_fault(error, out) or "") or isinstance(error, OSError):
        sentence = f"{name}: {sentence or error}"
    else:
        traceback.print_exception(error)
        sentence = f"{name}: not predicted because of a fault in this program ({type(error).__name__}, above)"
    print(f"predict: {sentence}", file=sys.stderr, flush=True)


def table(prediction: Prediction, directory: Path) -> str:
    """Format the events of one file as text."""
    lines = [f"{printable(prediction.path.name)}: {clock(prediction.seconds)}, {prediction.run} {prediction.member} -> {directory}"]
    lines += [
        f"  {clock(event.start):>9} - {clock(event.end):<9} {event.score:5.2f}  {in_words(event.modality):12}  {event.label}"
        for event in prediction.events
    ]
    if not prediction.events:
        lines.append("  no event")
    return "\n".join(lines)


class _Bar:
    """Progress over windows; their number is known once the file has been probed."""

    def __init__(self, name: str) -> None:
        self.bar = Progress(desc=name, unit="window", leave=False)

    def __enter__(self) -> Callable[[int, int], None]:
        return self._advance

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def _advance(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)
