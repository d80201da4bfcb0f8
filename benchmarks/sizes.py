"""Print what a clip takes, for every suite, and what whole data sets take: the tables of docs/scale.md.

python -m benchmarks.sizes

Computed from the settings alone. Pictures are taken to be of 340 x 256 pixels (a suite's own world: as it makes them) and sound of
44,100 Hz (16,000 Hz); a clip's length is that of its window. What a project of yours takes, the stages say before they write it.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.encoders import ENCODERS, VisualEncoder, create
from pipeline.errors import PipelineError
from pipeline.features.importing.settings import ImportSet
from pipeline.features.settings import FeatureSet
from pipeline.media.settings import MediaSettings
from pipeline.media.video import scaled_size
from pipeline.report.formats import markdown
from pipeline.report.tables import Table
from pipeline.yaml_files import read_yaml

SUITES = Path(__file__).resolve().parents[1] / "suites"
PICTURE, RATE, MADE_RATE = (256, 340), 44_100, 16_000  # height and width; Hz
SETS = {  # clips, and the pieces of ten seconds in them
    "AVE": (4097, 4097),
    "LLP": (11_849, 11_849),
    "UnAV-100": (10_790, 45_300),
    "VGGSound": (200_000, 200_000),
    "AudioSet": (2_000_000, 2_000_000),
}
RATES = {  # clips a second, as benchmarks/RESULTS.md has them
    "two cores, Lite0, 2 frames/s": 5.4,
    "two cores, ResNet-50, 2 frames/s": 1.5,
    "one H200 and 16 cores, ResNet-50, 16 frames/s, bfloat16": 28.2,
}


@dataclass(frozen=True)
class Size:
    """Bytes of one clip in a suite: decoded frames and sound (0: it has no clips), and features by feature set.

    Feature sets on models of folders are left out: CLAP and AST state their widths there.
    """

    suite: str
    frames: int
    sound: int
    features: dict[str, int]


def sizes() -> Iterator[Size]:
    """Yield the sizes of every suite."""
    for path in sorted(SUITES.glob("*.yaml")):
        params: dict[str, Any] = read_yaml(path)
        dataset, media = params["dataset"], MediaSettings.model_validate(params.get("media") or {})
        segments, seconds = dataset["segments"], dataset["segment_seconds"]
        found = {name: imported(ImportSet.model_validate(one), segments) for name, one in (params.get("imports") or {}).items()}
        decoded = (0, 0)
        if sets := params.get("features"):
            worlds = list((params.get("synth") or {}).values())
            picture = (worlds[0]["picture_size"],) * 2 if worlds else PICTURE
            per_segment = media.frames_per_segment(seconds)
            pixels = math.prod(scaled_size(picture, media.frame_size))
            rate = MADE_RATE if worlds else RATE
            decoded = (segments * per_segment * pixels * 3, round(segments * seconds * rate) * 4)
            for name, one in sets.items():
                with contextlib.suppress(PipelineError):  # a model's folder, which states its widths, is not here
                    found[name] = extracted(FeatureSet.model_validate(one), segments, per_segment)
        yield Size(path.stem, *decoded, found)


def imported(settings: ImportSet, segments: int) -> int:
    rows = settings.segments or segments
    return sum(rows * math.prod(source.shape) for source in settings.sources.values()) * np.dtype(settings.dtype).itemsize


def extracted(settings: FeatureSet, segments: int, per_segment: int) -> int:
    total = 0
    for choice in (settings.visual, settings.audio):
        weights = ENCODERS.get(choice.encoder).Config.model_fields.keys() & {"weights"}
        shape, keeps = encoded(choice.encoder, json.dumps({**choice.options, **dict.fromkeys(weights, "none")}, sort_keys=True))
        total += segments * (per_segment if keeps else 1) * math.prod(shape)
    return total * np.dtype(settings.dtype).itemsize


@cache  # suites have encoders in common
def encoded(name: str, options: str) -> tuple[tuple[int, ...], bool]:
    """(an encoder's output shape, whether it gives one output a frame); ``options`` are JSON."""
    with torch.device("meta"):  # shapes alone
        encoder = create(name, **json.loads(options))
    return encoder.output_shape, isinstance(encoder, VisualEncoder) and encoder.frames == "keep"


def in_words(count: int) -> str:
    return f"{count / 1e6:,.2f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB" if count else ""


def table(every: Iterable[Size]) -> str:
    """Sizes as Markdown; suites of equal sizes share a line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for size in every:
        features = ", ".join(f"{in_words(count)} (`{name}`)" for name, count in size.features.items())
        alike.setdefault((in_words(size.frames), in_words(size.sound), features), []).append(size.suite)
    return markdown(Table(["suite", "frames", "sound", "features"], [[", ".join(suites), *cells] for cells, suites in alike.items()]))


def two_digits(value: float) -> str:
    """Whole from 10 on, with one digit behind the point from 1 on, with two below."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def bytes_in_words(count: float) -> str:
    return f"{two_digits(count / 1e12)} TB" if count >= 1e12 else f"{two_digits(count / 1e9)} GB"


def time_in_words(seconds: float) -> str:
    units = (("days", 86_400, 3 * 86_400), ("h", 3600, 5400), ("min", 60, 0))
    return next(f"{two_digits(seconds / length)} {unit}" for unit, length, least in units if seconds >= least)


def plans(every: Iterable[Size]) -> tuple[str, str]:
    """What data sets take on disk, with files of 1 MB for ten seconds, and how long decoding and encoding takes: two tables."""
    of_suite = {size.suite: size for size in every}
    clip, vectors = of_suite["ave-encoders"], of_suite["clips"].features["lite0_mean_logmel"]
    each = (1e6, clip.frames, clip.sound, clip.features["resnet50_cnn14"], vectors)
    heads = ["", "clips", "10 s pieces", "files at 1 MB", "frames, 16 a second", "sound", "ResNet-50 and Cnn14 maps", "Lite0 vectors"]
    room = [
        [name, f"{clips:,}", f"{pieces:,}", *(bytes_in_words(pieces * count) for count in each)] for name, (clips, pieces) in SETS.items()
    ]
    time = [[name, *(time_in_words(pieces / rate) for rate in RATES.values())] for name, (_, pieces) in SETS.items()]
    return markdown(Table(heads, room)), markdown(Table(["", *(f"{machine}: {rate:g} clips/s" for machine, rate in RATES.items())], time))


if __name__ == "__main__":
    found = list(sizes())
    print(table(found), *plans(found), sep="\n")
