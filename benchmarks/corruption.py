"""Damage valid files at random and count the outcomes: no crash or hang of the parent, no silently short clip.

python -m benchmarks.corruption [--cases 1000] [--seed 0] [--workers 2]

The files are clips of the synthetic world, unchanged and rewrapped (packets copied) into other containers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import av

from pipeline.media.guard import Failure
from pipeline.synth.settings import SynthSettings
from pipeline.synth.world import write_world
from tests.media.damage import Case, Verdict, campaign

SECONDS = 10  # of a clip of the synthetic world
CONTAINERS = (".mkv", ".mov", ".ts", ".flv")


def rewrapped(source: Path, suffix: str) -> Path:
    """Copy the packets of ``source`` into a file beside it, with the container of ``suffix``."""
    target = source.with_suffix(suffix)
    options = {"fflags": "+bitexact"}  # no random identifiers: a seed damages the same byte in every campaign
    if suffix == ".mov":
        options["movflags"] = "faststart"
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options) as writer:
        streams = {stream.index: writer.add_stream_from_template(stream) for stream in reader.streams}
        for packet in reader.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                writer.mux(packet)
    return target


def make_sources(root: Path) -> list[Path]:
    write_world(root, SynthSettings(train_clips=2, val_clips=1, test_clips=1, picture_size=64))
    clips = sorted((root / "clips").iterdir())[:2]
    return [*clips, *(rewrapped(clips[number % 2], suffix) for number, suffix in enumerate(CONTAINERS))]


def table(outcomes: Sequence[tuple[Case, Verdict | Failure]]) -> str:
    statuses = Counter(outcome.status for _, outcome in outcomes)
    verdicts = [outcome for _, outcome in outcomes if isinstance(outcome, Verdict)]
    lines = [f"  {status:12} {count:5}" for status, count in statuses.most_common()]
    for name, told in (("short", "silently short"), ("spoiled", "wrong pictures"), ("moved", "pictures at other times")):
        marked = [verdict for verdict in verdicts if getattr(verdict, name)]
        by_status = ", ".join(f"{status} {count}" for status, count in Counter(verdict.status for verdict in marked).most_common())
        lines.append(f"  {told}: {len(marked)}" + (f" ({by_status})" if marked else ""))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        sources = make_sources(Path(directory))
        began = time.monotonic()
        outcomes = campaign(sources, arguments.cases, arguments.seed, arguments.workers, SECONDS)
        print(f"{len(outcomes)} cases of {len(sources)} files in {time.monotonic() - began:.0f} s")
    print(table(outcomes))
    for case, outcome in outcomes:
        if isinstance(outcome, Failure):
            print(f"  {outcome.status}: {Path(case.source).suffix} seed {case.seed}: {outcome.reason}")
        elif outcome.short:
            print(f"  silently short: {Path(case.source).suffix} seed {case.seed}: {outcome}")


if __name__ == "__main__":
    main()
