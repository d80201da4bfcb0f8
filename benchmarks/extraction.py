"""Measure how fast features are extracted, and compare with the limit set by decoding and encoding alone.

python -m benchmarks.extraction [--clips DIRECTORY] [--count 24] [--encoder NAME ...] [--frames-per-second 2] [--device auto] [--rounds 1]
python -m benchmarks.extraction --memory --count 300 --encoder NAME

Every round measures these jobs one after another on the same clips, with random weights (speed does not depend on them):
    decode      files -> decoded clips in a fresh cache (child processes) -> frames prepared for the encoder; no encoding
    encode      random frames (on a CPU, prepared ones), as many as the clips have, in an extraction's passes; no input
    end to end  the decode stage and the extraction into a fresh cache and a store; with a GPU, both at once
    bf16        end to end with precision: bfloat16
    decord      decord -> the transform, one clip at a time: what a plain script spends on reading
    plain       decord -> the transform -> the network, one clip at a time, float32, torch's own threads
The limit is 1 / (1 / decode + 1 / encode) where both share the CPU's cores, min(decode, encode) where the encoder has a GPU.
With --memory: one run end to end, and the peak memory of the process and its decoding children together.
Wall time is what a user waits for; on a shared machine it is noisy, and CPU seconds per clip are steadier.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch

from pipeline.cache import Cache, file_sha256
from pipeline.encoders import VisualEncoder, create
from pipeline.features.extraction import Extraction
from pipeline.features.lanes import Lanes, ahead
from pipeline.features.settings import FeatureSet
from pipeline.media.decoding import decode_clips, make_jobs
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from pipeline.synth.settings import SynthSettings
from pipeline.synth.world import write_world

SEGMENTS = 10
FEWEST_PASSES = 8  # of a measurement of encoding
ENCODERS = ("efficientnet_lite0", "resnet50")
REAL_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "realmix" / "clips"


@dataclass(frozen=True)
class Measured:
    """Wall and CPU seconds (children included) of one job over ``clips`` clips."""

    clips: float
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.clips / self.wall

    def __str__(self) -> str:
        return f"{self.rate:7.2f} clips/s   {self.cpu / self.clips:6.3f} CPU s/clip"


@dataclass(frozen=True)
class Bench:
    """The clips, and the settings for sampling and encoding them."""

    files: list[Path]
    encoder: str
    media: MediaSettings
    device: str
    workers: int
    options: Mapping[str, Any] = field(default_factory=dict)  # of the encoder

    def features(self, precision: str = "float32") -> FeatureSet:
        visual = {"encoder": self.encoder, "weights": "none", **self.options}
        return FeatureSet.model_validate(
            {"visual": visual, "audio": {"encoder": "logmel"}, "dtype": "float32", "precision": precision, "device": self.device}
        )

    @property
    def frames_of_clip(self) -> int:
        return SEGMENTS * self.media.frames_per_segment(1.0)

    def jobs(self, cache: Cache) -> dict[str, Job]:
        rows = [{"clip": file.name, "file": str(file), "sha256": file_sha256(file), "start": 0.0} for file in self.files]
        return make_jobs(pd.DataFrame(rows), SEGMENTS, 1.0, self.media, cache)[0]


def measured(clips: float, work: Callable[[], object]) -> Measured:
    def cpu() -> float:
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

    wall_before, cpu_before = time.monotonic(), cpu()
    work()
    return Measured(clips, time.monotonic() - wall_before, cpu() - cpu_before)


def decode_only(bench: Bench, root: Path) -> Measured:
    cache = Cache(root)
    jobs = bench.jobs(cache)
    extraction = Extraction(bench.features(), jobs, cache, bench.workers)

    def work() -> None:
        clips = extraction.plan.clips(decode_clips(list(jobs.values()), [], bench.media))
        assert len(clips) == len(jobs), "a clip of the benchmark does not decode"
        with Lanes(bench.workers, extraction.encoder.card) as lanes:
            for _ in ahead(lambda clip: lanes.load(extraction.encoder.prepare, clip), clips, bench.workers + 1):
                pass

    return measured(len(jobs), work)


def prepared(extraction: Extraction) -> torch.Tensor:
    """Random frames of one pass as an extraction prepares them; they run once, so the network is ready before any clock starts."""
    encoder, passes, card = extraction.encoder.encoders["visual"], extraction.encoder.passes["visual"], extraction.encoder.card
    assert isinstance(encoder, VisualEncoder)
    frames = torch.randint(0, 256, (passes.size, 256, 256, 3), dtype=torch.uint8)
    rows = card.pin(encoder.arrange(frames)) if card and encoder.prepares_on_device else encoder.prepare(frames)
    passes(rows)
    return rows


def encode_only(bench: Bench, root: Path, precision: str = "float32") -> Measured:
    extraction = Extraction(bench.features(precision), {}, Cache(root), bench.workers)
    passes, card, rows = extraction.encoder.passes["visual"], extraction.encoder.card, prepared(extraction)
    count = max(FEWEST_PASSES, round(len(bench.files) * bench.frames_of_clip / passes.size))

    def work() -> None:
        with Lanes(bench.workers, card) as lanes:
            for _ in ahead(lambda _: lanes.encode(passes.launch, [rows]), range(count), 3):
                pass
            lanes.throughput(0)  # waits for what a GPU has queued

    return measured(count * passes.size / bench.frames_of_clip, work)


def end_to_end(bench: Bench, root: Path, precision: str = "float32") -> Measured:
    cache = Cache(root)
    jobs = bench.jobs(cache)
    extraction = Extraction(bench.features(precision), jobs, cache, bench.workers)
    prepared(extraction)
    store = root / "store"
    store.mkdir(parents=True)

    def work() -> None:
        at_once = extraction.encoder.card is not None
        extraction.run(extraction.decode([], bench.media) if at_once else decode_clips(list(jobs.values()), [], bench.media), store)

    return measured(len(jobs), work)


def plain_frames(file: Path, count: int) -> torch.Tensor:
    """Read ``count`` frames of a file, evenly spaced, as decord gives them."""
    import decord

    reader = decord.VideoReader(str(file))
    chosen = torch.linspace(0, len(reader) - 1, count).round().int().tolist()
    return torch.from_numpy(reader.get_batch(chosen).asnumpy())


def plain_reading(bench: Bench, _: Path) -> Measured:
    """The plain script without its network: decord and the whole transform."""
    encoder = plain_encoder(bench)
    return measured(len(bench.files), lambda: [encoder.prepare(plain_frames(file, bench.frames_of_clip)) for file in bench.files])


def plain_encoder(bench: Bench) -> VisualEncoder:
    """The network as torchvision or timm build it, in their own memory format."""
    encoder = create(bench.encoder, weights="none", **bench.options).to(bench.device)
    assert isinstance(encoder, VisualEncoder)
    return encoder


def plain_loop(bench: Bench, _: Path, precision: str = "float32") -> Measured:
    """A plain script for comparison: no child processes, no cache, no sampling by time, no audio."""
    encoder = plain_encoder(bench)
    product = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = product  # type: ignore[attr-defined]

    def one(file: Path) -> None:
        frames = plain_frames(file, bench.frames_of_clip)
        with torch.inference_mode(), torch.autocast(bench.device, torch.bfloat16, enabled=precision == "bfloat16"):
            encoder.encode(encoder.prepare(frames).to(bench.device)).cpu()

    one(bench.files[0])  # algorithms are chosen before the clock starts
    return measured(len(bench.files), lambda: [one(file) for file in bench.files])


def one_round(bench: Bench) -> dict[str, Measured]:
    jobs: dict[str, Callable[[Path], Measured]] = {
        "decode": partial(decode_only, bench),
        "encode": partial(encode_only, bench),
        "end to end": partial(end_to_end, bench),
        "bf16": partial(end_to_end, bench, precision="bfloat16"),
        "decord": partial(plain_reading, bench),
        "plain": partial(plain_loop, bench),  # last: decord can end a process, which is why the pipeline decodes in children
    }
    results = {}
    with tempfile.TemporaryDirectory() as root:
        for name, job in jobs.items():
            results[name] = job(Path(root) / name)
            print(f"  {bench.encoder} {name:11} {results[name]}", flush=True)
    return results


def report(bench: Bench, results: dict[str, Measured]) -> None:
    decode, encode, whole = results["decode"], results["encode"], results["end to end"]
    shared = torch.device(bench.device).type == "cpu"
    limit = 1 / (1 / decode.rate + 1 / encode.rate) if shared else min(decode.rate, encode.rate)
    print(
        f"\n{bench.encoder}, {len(bench.files)} clips, {bench.media.frames_per_second:g} frames/s, {bench.workers} workers, {bench.device}"
    )
    print(f"  of the limit ({limit:.2f} clips/s): {whole.rate / limit:.2f}; by CPU seconds: {(decode.cpu + encode.cpu) / whole.cpu:.2f}")
    print(f"  decoding and handing over, of decord's CPU seconds with the whole transform: {decode.cpu / results['decord'].cpu:.2f}")
    for name in ("end to end", "bf16"):
        result, plain = results[name], results["plain"]
        print(f"  {name} against the plain loop: {result.rate / plain.rate:.2f} times; by CPU seconds: {plain.cpu / result.cpu:.2f}")


class PeakMemory:
    """The largest sum of the resident sets of this process and its children in GiB, sampled ten times a second."""

    def __enter__(self) -> PeakMemory:
        self.gib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.1):
            held = 0
            for process in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    held += process.memory_info().rss
            self.gib = max(self.gib, held / 2**30)


def memory(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as root, PeakMemory() as peak:
        whole = end_to_end(bench, Path(root))
    print(
        f"  {bench.encoder}, {len(bench.files)} clips, {bench.media.frames_per_second:g} frames/s: {whole}; peak {peak.gib:.2f} GiB",
        flush=True,
    )


def find_clips(directory: Path | None, count: int, scratch: Path) -> list[Path]:
    """Find ``count`` clips: in ``directory``, else the real ones beside the repository, else of a new synthetic world."""
    chosen = directory or REAL_CLIPS
    if not chosen.is_dir():
        write_world(
            scratch, SynthSettings(train_clips=max(2, count - 2), val_clips=1, test_clips=1, picture_size=256), workers=os.cpu_count()
        )
        chosen = scratch / "clips"
    return sorted(path for path in chosen.iterdir() if path.suffix == ".mp4")[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--encoder", action="append", help="a registered visual encoder; may be given again")
    parser.add_argument("--frames-per-second", type=float, default=2.0)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="only one run end to end, and its peak memory")
    arguments = parser.parse_args()
    workers = len(os.sched_getaffinity(0))
    torch.set_num_threads(workers)
    device = "cuda" if arguments.device != "cpu" and torch.cuda.is_available() else "cpu"
    print(f"{platform.machine()}, {workers} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as scratch:
        files = find_clips(arguments.clips, arguments.count, Path(scratch))
        media = MediaSettings(frames_per_second=arguments.frames_per_second, workers=workers)
        for name in arguments.encoder or ENCODERS:
            for _ in range(arguments.rounds):
                bench = Bench(files, name, media, device, workers)
                memory(bench) if arguments.memory else report(bench, one_round(bench))


if __name__ == "__main__":
    main()
