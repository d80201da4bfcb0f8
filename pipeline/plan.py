"""Write the code and files that each run, feature set, fine-tuning and label set of params.yaml chooses by its settings.

DVC cannot make a dep of a setting that may be absent, so each choice gets a JSON of its own (path to sha256) as its dep. A change to one
method's code changes only the JSON of that method's runs. A link to every named file is written too, so DVC notices when the file changes.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cache import file_sha256
from pipeline.closure import PLUMBING, digests
from pipeline.config import Params
from pipeline.datasets.sounds import sound_files
from pipeline.encoders import ENCODERS
from pipeline.encoders.known_weights import KNOWN
from pipeline.errors import InputProblems
from pipeline.features.settings import EncoderChoice
from pipeline.made_with import WORKING_SETTINGS
from pipeline.methods import METHODS
from pipeline.training.choices import TRAINING_PLUMBING, chosen_code
from pipeline.training.loggers import missing_loggers

SOUNDS = "sounds.json"  # the files of dataset.sounds, which DVC cannot name as a dep where there are none
CHECKED = "checked.json"  # written when params.yaml is in order; always the same bytes


@dataclass(frozen=True)
class Choice:
    """The code and files that an entry of params.yaml chooses.

    place: path of its JSON, without suffix.
    code: the chosen source files; what they import is added.
    files: named files, by the path of the setting that names them.
    cut: modules that cannot change its numbers.
    more: ``weights``, what says which files are the encoders' published weights, by name; or ``train``, the settings of that block without
        those that change no number (DVC itself would rerun all runs for any of the block).
    """

    place: str
    code: list[Path]
    files: Mapping[str, Path]
    cut: Mapping[str, str]
    more: Mapping[str, Any] = field(default_factory=dict)


def choices(params: Params) -> Iterator[Choice]:
    """Yield the choices of the index and every run (to train, to evaluate), feature set, fine-tuning and label set."""
    by = params.dataset.folds.by if params.dataset.folds is not None else None
    yield Choice("index", [], {"dataset.folds.by": by} if by is not None else {}, PLUMBING)
    of_train = {"train": params.train.model_dump(mode="json", exclude=WORKING_SETTINGS)}
    for name, run in params.runs.items():
        settings = params.method_settings(name)
        code, files = chosen_code(run, settings), named_files(params, name)
        yield Choice(f"train/{name}", code, files, TRAINING_PLUMBING, of_train)
        yield Choice(f"evaluate/{name}", code, {}, PLUMBING, of_train)
    for stage, entries in (("extract", params.features), ("finetune", params.finetune)):
        for name, entry in entries.items():
            block = "features" if stage == "extract" else stage
            encoders = {f"{block}.{name}.{modality}": choice for modality, choice in (("visual", entry.visual), ("audio", entry.audio))}
            code = [Path(inspect.getfile(ENCODERS.get(choice.encoder))) for choice in encoders.values()]
            files = {place: path for prefix, choice in encoders.items() for place, path in own_weights(prefix, choice)}
            weights = {name: facts for choice in encoders.values() for name, facts in published_weights(choice.encoder).items()}
            yield Choice(f"{stage}/{name}", code, files, PLUMBING, {"weights": weights} if weights else {})
    for name, labels in params.labels.items():
        yield Choice(f"label/{name}", [], {f"labels.{name}.{setting}": path for setting, path in labels.files.items()}, PLUMBING)


def named_files(params: Params, name: str) -> dict[str, Path]:
    """Files named by the settings of a run's method, by the setting's path in params.yaml."""
    run = params.runs[name]
    config = METHODS.get(run.method).Config(**params.method_settings(name))
    return {
        f"runs.{name}.overrides.{setting}" if setting.split(".")[0] in run.overrides else f"methods.{run.method}.{setting}": path
        for setting, path in config.files.items()
    }


def own_weights(prefix: str, choice: EncoderChoice) -> Iterator[tuple[str, Path]]:
    """Yield (setting, path) for files of the user's: weights, and the source of a program that a setting names."""
    config = ENCODERS.get(choice.encoder).Config(**choice.options)
    for setting, path in {**config.files(), **config.sources()}.items():
        yield f"{prefix}.{setting}", path


def published_weights(encoder: str) -> dict[str, list[object]]:
    """File name, hash and package of an encoder's published weights, by name: the encoder's, perhaps with a suffix."""
    return {
        name: [known.file, known.sha256, known.package]
        for name, known in KNOWN.items()
        if name == encoder or name.startswith(f"{encoder}_")
    }


def missing_files(params: Params, root: Path = Path()) -> list[str]:
    """One sentence for each setting with a file that is missing, be its path absolute or relative to ``root``."""
    named = {setting: path for choice in choices(params) for setting, path in choice.files.items()}
    advice = "put it there, or correct the path"
    return [f"{setting}: there is no file {path}; {advice}" for setting, path in named.items() if not (root / path).is_file()]


def write_plan(params: Params, directory: Path) -> None:
    """Write the JSON of every choice, links to the named files, and ``checked.json``.

    Raises:
        InputProblems: all settings that name missing files or packages.
    """
    if problems := [*missing_files(params), *missing_loggers(params.train.loggers)]:
        raise InputProblems("params.yaml", problems)
    for choice in choices(params):
        files = _hashed(choice.files, directory)
        write_json(directory / f"{choice.place}.json", {"code": digests(choice.code, cut=choice.cut), "files": files, **choice.more})
    sounds = params.dataset.sounds
    named = {f"dataset.sounds/{path.relative_to(sounds).as_posix()}": path for path in sound_files(sounds) if sounds}
    write_json(directory / SOUNDS, {"files": _hashed(named, directory)})
    write_json(directory / CHECKED, {"params.yaml": "in order"})


def _hashed(files: Mapping[str, Path], directory: Path) -> dict[str, str]:
    """Hash files, named by the setting that names each, and leave a link to each in ``directory``."""
    for setting, path in files.items():
        link = directory / "files" / setting
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path.absolute())
    return {setting: file_sha256(path) for setting, path in files.items()}


def write_json(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
