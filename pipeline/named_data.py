"""The data that params.yaml names: which of it is not here, setting by setting, and how it comes here.

DVC says no more of a missing dep than "[Errno 2]" and its path; a fresh clone has none of a published data set's files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.config import Params

SYNTHESIZED = Path("data/raw")  # the stage synthesize writes each world below it


def missing_data(params: Params, root: Path = Path()) -> list[str]:
    """One sentence for every setting that names data which neither is in the project at ``root`` nor comes from a stage."""
    worlds = [SYNTHESIZED / world for world in params.synth]
    return [
        f"{setting}: there is no {path}; {advice}"
        for setting, path, advice in named_data(params)
        if not (root / path).exists() and not any(path.is_relative_to(world) for world in worlds)
    ]


def named_data(params: Params) -> Iterator[tuple[str, Path, str]]:
    """(setting, path, how the data comes there) of every setting that names data of the user's."""
    dataset = params.dataset
    put = "put the files there (suites/ say at their top which and from where), fetch them with `dvc pull` if a remote has them"
    if dataset.has_clips:
        bring = "bring them in with `python -m pipeline unpack` or `download`"
        yield "dataset.clips", dataset.clips, f"put the clips there, {bring}, or correct the path"
    yield "dataset.annotations", dataset.annotations, f"{put}, or correct the path"
    for name, entry in params.imports.items():
        yield f"imports.{name}.directory", entry.directory, f"{put}, or remove the entry and the rows on it"
