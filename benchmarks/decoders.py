"""Check for every file of a directory that decord and PyAV show the same picture at the same time.

python -m benchmarks.decoders DIRECTORY [--workers 2]

tests/media/decoders.py describes the comparison.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.media.guard import Failure
from pipeline.media.stream import TICK
from tests.media.decoders import Comparison, compare_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    files = sorted(str(path) for path in arguments.directory.rglob("*") if path.is_file())
    compared = compare_all(files, arguments.workers)
    read = {path: found for path, found in sorted(compared.items()) if isinstance(found, Comparison)}
    print(f"{len(files)} files, {len(read)} with pictures that PyAV reads")
    for path, found in read.items():
        apart = max(found.raw or 0.0, found.checked or 0.0)
        if found.raw is None or found.checked is None or apart > found.frame + TICK or found.grey > 10:
            print(f"{Path(path).name}: {found}")
    for path, outcome in compared.items():
        if isinstance(outcome, Failure):
            print(f"{Path(path).name}: {outcome.status}: {outcome.reason}")


if __name__ == "__main__":
    main()
