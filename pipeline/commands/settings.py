"""``settings``: print the settings of a run and where each comes from, or write the page of all settings."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.config import Params

PARAMS, PAGE, DAG = Path("params.yaml"), Path("docs/settings.md"), Path("dvc.yaml")


def add(commands: Any) -> None:
    parser = commands.add_parser("settings", help="print the settings of a run and where each comes from")
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run of `runs` in params.yaml")
    parser.add_argument("--reference", action="store_true", help=f"write {PAGE}, the page of all settings, instead")
    parser.set_defaults(command=settings)


def settings(arguments: argparse.Namespace) -> None:
    if arguments.reference:
        from pipeline.reference import reference  # imports torch

        PAGE.write_text(reference(DAG), encoding="utf-8")
        print(f"{PAGE} is written")
        return
    from pipeline import config  # imports torch

    params = config.load(PARAMS)
    if arguments.run is None:
        raise PipelineError(f"name a run: {', '.join(params.runs) or 'the block `runs` is empty'}")
    config.pick(params.runs, arguments.run, "run")
    lines = list(resolved(params, arguments.run))
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    print("\n".join(f"{key:{widths[0]}}  {value:{widths[1]}}  {source}" for key, value, source in lines))


def resolved(params: Params, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield (setting, value, where it comes from) for a run, its method and its training."""
    from pipeline.methods import METHODS

    run = params.runs[name]
    for key in ("task", "method", "features", "seeds"):
        yield key, json.dumps(getattr(run, key)), f"runs.{name}" if key in run.model_fields_set else "default"
    given = {f"methods.{run.method}": flat(params.methods.get(run.method, {})), f"runs.{name}.overrides": flat(run.overrides)}
    values = flat(METHODS.get(run.method).Config(**params.method_settings(name)).model_dump(mode="json"))
    for key, value in values.items():
        places = [place for place, keys in given.items() if any(f"{key}.".startswith(f"{each}.") for each in keys)]
        yield key, json.dumps(value), places[-1] if places else "default"
    for key, value in params.train.model_dump(mode="json").items():
        yield f"train.{key}", json.dumps(value), "train" if key in params.train.model_fields_set else "default"


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found
