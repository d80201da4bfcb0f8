"""``features``: encode film files, without a data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.options import key_values
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.features.recipes import Recipe


def add(commands: Any) -> None:
    parser = commands.add_parser("features", help="encode film files, without a data set: npy, HDF5 or parquet")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a film of up to three hours (media.max_seconds)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of the features; a second call goes on there")
    parser.add_argument("--set", dest="name", metavar="NAME", help="an entry of `features` in --params: its encoders, sampling and windows")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="default params.yaml; or one of suites/")
    for modality in ("visual", "audio"):
        parser.add_argument(
            f"--{modality}", nargs="+", metavar=("ENCODER", "KEY=VALUE"), help="in place of --set: an encoder and its own settings"
        )
    parser.add_argument("--media", nargs="+", metavar="KEY=VALUE", help="with --visual: settings of `media`, such as frames_per_second=16")
    parser.add_argument("--segments", type=int, metavar="T", help="with --visual: segments of a window (default 10)")
    parser.add_argument("--segment-seconds", type=float, metavar="S", help="with --visual: seconds of a segment, one row (default 1)")
    parser.add_argument("--dtype", choices=["float16", "float32"], help="with --visual: of the stored numbers (default float16)")
    parser.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], help="with --visual: of the arithmetic (default float32)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="default: as --set says, else auto")
    parser.add_argument("--gpu", dest="device", action="store_const", const="cuda", help="the same as --device cuda")
    parser.add_argument("--format", choices=["npy", "h5", "parquet"], default="npy", dest="form", help="of the files (default npy)")
    parser.set_defaults(command=features)


def features(arguments: argparse.Namespace) -> None:
    from pipeline.features.folder import encode_into  # imports torch

    sys.exit(encode_into(arguments.out, arguments.form, arguments.files, _recipe(arguments)))


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from pipeline.features.recipes import project_recipe, recipe

    names = ("segments", "segment_seconds", "dtype", "precision", "device")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    explicit = [name for name in ("visual", "audio", "media", *names[:-1]) if getattr(arguments, name) is not None]
    if arguments.name is not None:
        if explicit:
            raise PipelineError(f"--set says how to encode; leave out --{', --'.join(explicit).replace('_', '-')}")
        return project_recipe(arguments.name, arguments.params, arguments.device)
    if not (arguments.visual and arguments.audio):
        raise PipelineError("name the encoders: --set NAME, or both --visual ENCODER and --audio ENCODER")
    visual, audio = ({"encoder": words[0], **_settings(words[1:])} for words in (arguments.visual, arguments.audio))
    return recipe(visual, audio, media=_settings(arguments.media or []), **given)


def _settings(words: list[str]) -> dict[str, Any]:
    """An encoder's settings; a FILE among them stands behind the options."""
    return key_values(words, "; name the FILEs first, before the options")
