"""Find the data that params.yaml names but the project lacks, with advice on how to get it.

For a missing dep DVC prints only "[Errno 2]" and its path, and a fresh clone has no files of a published data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.config import Params

SYNTHESIZED = Path("data/raw")  # the stage synthesize writes each world below it


def missing_data(params: Params, root: Path = Path()) -> list[str]:
    """One sentence for each setting with data that is neither in the project at ``root`` nor made by a stage."""
    worlds = [SYNTHESIZED / world for world in params.synth]
    return [
        f"{setting}: there is no {path}; {advice}"
        for setting, path, advice in named_data(params)
        if not (root / path).exists() and not any(path.is_relative_to(world) for world in worlds)
    ]


def named_data(params: Params) -> Iterator[tuple[str, Path, str]]:
    """Yield (setting, path, advice on getting the data) for every setting that names the user's data."""
    dataset = params.dataset
    put = "put the files there (the head of each suite in suites/ lists them), fetch them with `dvc pull` if a remote has them"
    if dataset.has_clips:
        bring = "bring them in with `python -m pipeline unpack` or `download`"
        yield "dataset.clips", dataset.clips, f"put the clips there, {bring}, or correct the path"
    yield "dataset.annotations", dataset.annotations, f"{put}, or correct the path"
    for name, entry in params.imports.items():
        yield f"imports.{name}.directory", entry.directory, f"{put}, or remove the entry and its runs"
