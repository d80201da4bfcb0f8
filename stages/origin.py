"""Link the user's data into the directory in which DVC runs an experiment of `dvc exp run --queue` or `--temp`.

DVC copies what git or DVC tracks to .dvc/tmp/exps/. Data of a relative path that neither tracks (`../films`, published features, weights)
would be missing there, and DVC would print only "[Errno 2]"; so such a path gets a link to what it means in the project itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.config import Params
from pipeline.encoders.weights import PRETRAINED
from pipeline.errors import InputProblems
from pipeline.named_data import SYNTHESIZED, named_data
from pipeline.plan import choices
from stages.paths import PARAMS

EXPERIMENTS = (".dvc", "tmp", "exps")


def origin(root: Path) -> Path | None:
    """The project in which the experiment that runs in ``root`` was started; None if ``root`` is no such directory."""
    parts = root.parts
    for end in range(len(parts) - 1, len(EXPERIMENTS), -1):
        if parts[end - len(EXPERIMENTS) : end] == EXPERIMENTS:
            return Path(*parts[: end - len(EXPERIMENTS)])
    return None


def link_data(params: Params, root: Path) -> None:
    """Link what relative paths of ``params`` mean in the experiment's project, where ``root`` (absolute) lacks it.

    Raises:
        InputProblems: paths that lead so far out of the project, or to such a name, that no link can be made.
    """
    project = origin(root)
    if project is None:
        return
    problems = []
    for setting, path in relative_paths(params, project):
        meant, here = project / path, Path(os.path.normpath(root / path))
        if not meant.exists() or (here.is_relative_to(root) and here.exists()):
            continue
        if here.is_symlink() and not here.exists():  # of an earlier experiment; the data have moved
            here.unlink(missing_ok=True)
        if here.is_relative_to(project / ".dvc" / "tmp") and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # another experiment was faster
                here.symlink_to(os.path.abspath(meant))
        if not here.exists() or not here.samefile(meant):
            problems.append(f"{setting}: {path} cannot be followed from {root}, where DVC runs this experiment; make it an absolute path")
    if problems:
        raise InputProblems(str(PARAMS), problems)


def relative_paths(params: Params, project: Path) -> Iterator[tuple[str, Path]]:
    """Yield (setting, path) for data and files that no stage makes, if the path is relative, and for downloaded weights."""
    worlds = [SYNTHESIZED / world for world in params.synth]
    named = [(setting, path) for setting, path, _ in named_data(params)]
    named += [(setting, path) for choice in choices(params) for setting, path in choice.files.items()]
    named += [("weights", path.relative_to(project)) for path in sorted((project / PRETRAINED).glob("*"))]
    for setting, path in named:
        if not path.is_absolute() and not any(path.is_relative_to(world) for world in worlds):
            yield setting, path
