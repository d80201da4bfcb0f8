"""Extraction on a card: decoding alone, encoding alone, end to end, and a plain loop over decord at the same precision."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.extraction import Bench, Measured, decode_only, encode_only, end_to_end, find_clips, plain_loop, plain_reading
from benchmarks.gpu.parts import Results
from pipeline.media.settings import MediaSettings

PRECISIONS = ("float32", "tf32", "bfloat16")
PLAIN = ("float32", "bfloat16")  # of the plain loop, the slowest job
FREE_BOX = b"\0\0\0\x0cfree"  # of an MP4 file: a box of twelve bytes, the last four of any content, that players skip


def copies(files: list[Path], number: int, directory: Path) -> list[Path]:
    """Copy every file ``number`` times, each with other bytes at its end, so that none is taken for another."""
    directory.mkdir()
    made = []
    for copy in range(number):
        for file in files:
            made.append(directory / f"{copy}-{file.name}")
            shutil.copyfile(file, made[-1])
            with open(made[-1], "ab") as stream:
                stream.write(FREE_BOX + copy.to_bytes(4, "big"))
    return made


def extraction(
    results: Results, encoder: str, rate: float, clips: str | None, count: int, number: int, workers: int, device: str, small: bool
) -> None:
    """Measure one encoder at ``rate`` frames a second.

    The pipeline decodes ``number`` copies of the clips, because sixteen children that start take as long as a few clips each.
    """
    torch.set_num_threads(workers)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        files = find_clips(Path(clips) if clips else None, count, root / "world")
        media = MediaSettings(frames_per_second=rate, workers=workers)
        bench = Bench(files, encoder, media, device, workers, {"image_size": 64} if small else {})

        many = replace(bench, files=copies(files, number, root / "copies"))

        def job(name: str, work: Callable[..., Measured], *precision: str) -> None:
            line = " ".join([name, *precision])
            with results.job(line):
                measured = work(many if work in (decode_only, end_to_end) else bench, root / line, *precision)
                results.emit(line, rate=measured.rate, cpu=measured.cpu / measured.clips)

        job("decode", decode_only)
        for precision in PRECISIONS:
            job("encode", encode_only, precision)
            job("end to end", end_to_end, precision)
        job("decord", plain_reading)  # last: decord can end a process, which is why the pipeline decodes in children
        for precision in PLAIN:
            job("plain loop", plain_loop, precision)
