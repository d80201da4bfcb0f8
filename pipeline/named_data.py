"""Find the data that params.yaml names but the project lacks, and files of the user's where outs would be written.

For a missing dep DVC prints only "[Errno 2]" and its path, and a fresh clone has no files of a published data set. A stage's out DVC
removes before it runs the stage, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import Params
from pipeline.synth.annotations import FILES
from pipeline.text import printable

SYNTHESIZED = Path("data/raw")  # the stage synthesize writes each world below it
# Block of params.yaml, directory of its entries' outs, and a file that every finished out of this kind has.
OUTS = (
    ("synth", SYNTHESIZED, "spans.csv"),
    ("finetune", "models/encoders", "finetune.json"),
    ("features", "data/features", "spec.json"),
    ("imports", "data/features", "spec.json"),
    ("labels", "data/features", "spec.json"),
    ("runs", "models/runs", "seed-*.json"),
    ("runs", "data/results/runs", "metrics.json"),
)


def missing_data(params: Params, root: Path = Path()) -> list[str]:
    """One sentence for each setting with data that is neither in the project at ``root`` nor made by a stage."""
    made = {SYNTHESIZED / world / name for world in params.synth for name in ("", "clips", *FILES)}
    return [
        f"{setting}: there is no {path}; {advice}"
        for setting, path, advice in named_data(params)
        if not (root / path).exists() and path not in made
    ]


def foreign_outs(params: Params, root: Path = Path()) -> list[str]:
    """One sentence for each entry whose out would replace files that no stage wrote."""
    lock = root / "dvc.lock"
    recorded = set(re.findall(r"path: (.+)", lock.read_text(encoding="utf-8"))) if lock.is_file() else set()
    problems = []
    for block, above, record in OUTS:
        for name in getattr(params, block):
            place = Path(above, name)
            found = sorted(path.name for path in (root / place).glob("*"))
            if found and place.as_posix() not in recorded and not any((root / place).glob(record)):
                problems.append(
                    f"{block}.{name}: {place} holds files that no stage wrote, such as {printable(found[0])}; they would be removed for"
                    " those of this entry, so move them, or give the entry another name"
                )
    return problems


def named_data(params: Params) -> Iterator[tuple[str, Path, str]]:
    """Yield (setting, path, advice on getting the data) for every setting that names the user's data."""
    dataset = params.dataset
    put = "put the files there (the head of each suite in suites/ lists them), fetch them with `dvc pull` if a remote has them"
    if dataset.has_clips:
        bring = "bring them in with `python -m pipeline unpack` or `download`"
        yield "dataset.clips", dataset.clips, f"put the clips there, {bring}, or correct the path"
    if dataset.sounds is not None:
        yield "dataset.sounds", dataset.sounds, f"{put}, or set it to null for films with sound of their own"
    yield "dataset.annotations", dataset.annotations, f"{put}, or correct the path"
    for name, entry in params.imports.items():
        yield f"imports.{name}.directory", entry.directory, f"{put}, or remove the entry and its runs"
