"""The parts of the benchmark, and the process that runs one of them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ENCODERS = ("resnet50", "vgg19", "efficientnet_lite0")
BUNDLED_CLIPS = Path(".gpu/clips")  # as the bundle for a bare machine unpacks them
SLOWER = 10  # limits of a trial on a CPU
AVEL = (
    "cace_net",
    "ccln",
    "cmbs",
    "cmran",
    "psp",
    "avel",
    "bilstm",
    "dmin",
    "dam_localization",
    "ave_clip",
    "css_net",
    "cpsp",
    "vscg",
    "mm_pyramid_avel",
    "event_memory",
    "magan",
)
AVVP = {
    "han": {},
    "cmpae": {},
    "coleaf": {},
    "coleaf-cmpae": {"anchor": "cmpae"},
    "ma": {},
    "jomold": {},
    "valor": {},
    "valor_plus": {},
    "valor_plus_plus": {},
    "uwav": {},
    "mm_pyramid": {},
    "leap": {},
    "avel_parsing": {},
    "avsdn_parsing": {},
    "cvcms": {},
    "dhhn": {},
    "mgn": {},
}
DAVE = {
    "unav": {"variant": "released", "motion": "motion"},
    "cace_net_dense": {"variant": "released", "motion": "motion"},
    "unav-plain": {"variant": "released", "motion": "motion", "dependency_width": 0},
}
FIRST = ("cace_net", "han", "cmpae", "coleaf-cmpae")  # methods with a goal
STEPS = (
    {"precision": "32-true", "graphs": "off"},
    {"precision": "32-true", "graphs": "auto"},
    {"precision": "tf32", "graphs": "auto"},
    {"precision": "bf16-mixed", "graphs": "auto"},
)
EPOCHS = {
    "tf32": {"precision": "tf32"},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "32-true": {"precision": "32-true"},
    "tf32-streamed": {"precision": "tf32", "resident_gb": 0.5},
}


@dataclass(frozen=True)
class Part:
    """One part: its name, its limit in seconds, and the call that measures it."""

    name: str
    limit: float
    function: str
    arguments: dict[str, Any]


def parts(options: argparse.Namespace, scratch: Path) -> list[Part]:
    """List all parts, the most important ones first."""
    common = {"device": options.device, "small": options.small}
    made = {**common, "root": str(scratch)}
    length = 200 if options.whole else 3 if options.small else 12
    few = 200 if options.whole else 3 if options.small else 10
    released = Part("steps/as_released", 45, "released", common)
    avel = [steps(name, "avel", name, {}, made) for name in AVEL]
    avvp = [steps(name, "avvp", name.partition("-")[0], settings, made) for name, settings in AVVP.items()]
    dave = [steps(name, "dave", name.partition("-")[0], settings, made) for name, settings in DAVE.items()]
    extraction = {rate: [extract(encoder, rate, options, common) for encoder in ENCODERS] for rate in (16.0, 2.0)}
    epochs = [
        Part(f"epochs/{name}", 240 if options.whole else 60, "epochs", {**made, "count": length, "train": train, "name": name})
        for name, train in EPOCHS.items()
    ]
    seeds = Part("seeds", 420 if options.whole else 100, "seeds", {**made, "count": few, "train": EPOCHS["tf32"], "number": 5})
    finetuning = [
        Part(f"finetuning/{precision}-{'plain' if at_once is None else 'cached'}", 45, "finetune",
             {**common, "precision": precision, "parts": at_once})
        for precision in ("32-true", "tf32", "bf16-mixed") for at_once in (None, 8 if not options.small else 2)
    ]  # fmt: skip
    of_method = {part.name.removeprefix("steps/"): part for part in [*avel, *avvp, *dave]}
    first = [released, *(of_method.pop(name) for name in FIRST), epochs[0], *extraction[16.0][:2], seeds]
    listed = [*first, *of_method.values(), *epochs[1:], *finetuning, *extraction[16.0][2:], *extraction[2.0]]
    return [replace(part, limit=SLOWER * part.limit) for part in listed] if options.device == "cpu" else listed


def steps(name: str, task: str, method: str, settings: dict[str, Any], made: dict[str, Any]) -> Part:
    variants = STEPS[:2] if made["small"] else STEPS
    return Part(f"steps/{name}", 45, "steps", {**made, "task": task, "method": method, "settings": settings, "variants": variants})


def extract(encoder: str, rate: float, options: argparse.Namespace, common: dict[str, Any]) -> Part:
    clips = options.clips or (BUNDLED_CLIPS if BUNDLED_CLIPS.is_dir() else None)
    arguments = {
        **common, "encoder": encoder, "rate": 1.0 if options.small else rate, "clips": None if clips is None else str(clips.resolve()),
        "count": 2 if options.small else options.count, "number": options.copies, "workers": len(os.sched_getaffinity(0)),
    }  # fmt: skip
    return Part(f"extraction/{encoder}@{rate:g}", 120 if rate > 8 else 60, "extraction", arguments)


class Results:
    """Where a part leaves its lines; a job that fails does not keep the part's other jobs from being measured."""

    def __init__(self, path: Path) -> None:
        self.path, self.failed = path, False

    def emit(self, line: str, **numbers: float) -> None:
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"line": line, "numbers": numbers}) + "\n")

    @contextlib.contextmanager
    def job(self, line: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.failed = True
            print(f"{line} failed:", flush=True)
            traceback.print_exc()


def main() -> None:
    """Run one part when a line comes on stdin: ``python -m benchmarks.gpu.parts FUNCTION ARGUMENTS RESULTS``."""
    from benchmarks.gpu import extraction, training

    function, arguments, results = sys.argv[1], json.loads(sys.argv[2]), Results(Path(sys.argv[3]))
    measure: Callable[..., None] = getattr(extraction if function == "extraction" else training, function)
    if sys.stdin.readline():  # nothing comes if the benchmark has ended
        measure(results, **arguments)
    sys.exit(results.failed)


if __name__ == "__main__":
    main()
