"""``python -m pipeline predict FILE... --run ROW``: a folder of answers per file, and a short table."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from pipeline.errors import PipelineError
from pipeline.predict.outputs import write_overlay, write_prediction
from pipeline.predict.prediction import Prediction
from pipeline.predict.predictor import Predictor
from pipeline.report.timeline import clock

ALL, SOME, NONE = 0, 1, 2  # exit codes: how many of the files were answered whole


def run(files: list[Path], row: str, seed: int | None, out: Path, overlay: bool) -> int:
    """Predict every file; one that cannot be is told on stderr and keeps no other from its answer. Returns the exit code.

    0: all answered. 1: some, or a part of one, could not be; the others are written. 2: none.

    Raises:
        PipelineError: the row cannot predict at all; no file was looked at.
    """
    predictor = Predictor(row, seed)
    whole = answered = 0
    for path, name in zip(files, folders(files), strict=True):
        try:
            prediction = one(predictor, path, out / name, overlay)
        except (PipelineError, OSError) as error:
            print(f"predict: {error}", file=sys.stderr, flush=True)
            continue
        answered += 1
        whole += not prediction.problems
        print(table(prediction, out / name), flush=True)
        for problem in prediction.problems:
            print(f"predict: {path}: not answered from {problem}", file=sys.stderr, flush=True)
    return NONE if not answered else ALL if whole == len(files) else SOME


def one(predictor: Predictor, path: Path, directory: Path, overlay: bool) -> Prediction:
    """Predict one file and write its folder."""
    with _Bar(path.name) as bar:
        prediction = predictor.predict(path, bar)
    write_prediction(prediction, directory)
    if overlay:
        with _Bar(f"{path.name}, overlay") as bar:
            write_overlay(prediction, predictor.media, predictor.cache, directory / "overlay.mp4", bar)
    return prediction


def folders(files: list[Path]) -> list[str]:
    """A name for the folder of each file: its stem; its whole name where stems repeat; numbered where names do."""
    stems = Counter(path.stem for path in files)
    names: list[str] = []
    for path in files:
        plain = name = path.stem if stems[path.stem] == 1 else path.name
        number = 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def table(prediction: Prediction, directory: Path) -> str:
    """The events of one file as people read them."""
    lines = [f"{prediction.path.name}: {clock(prediction.seconds)}, {prediction.row} seed {prediction.seed} -> {directory}"]
    lines += [
        f"  {clock(event.start):>9} - {clock(event.end):<9} {event.score:5.2f}  {event.perceived:5}  {event.label}"
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
