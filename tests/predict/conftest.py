"""The tiny project's clips with two trained runs, made once in this process by the stages' own functions."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from ruamel.yaml import YAML
from tiny_project import FEATURES, NARROW, TINY, copy_tree

from pipeline.__main__ import main
from pipeline.predict import outputs
from stages import decode, evaluate, extract, index, train

METHODS = {
    "avel": {"attention_width": 16, "recurrent_width": 8, "classifier_width": 8, "recipe": {**NARROW, "epochs": 6}},
    "cace_net": {"visual_hidden": 16, "width": 16, "lambda_contrast": 0.6, "recipe": {**NARROW, "epochs": 6}},
}
PARAMS = {
    **TINY,
    "methods": METHODS,
    "features": {"first": {**FEATURES, "visual": {**FEATURES["visual"], "resize": 80}}},
    "runs": {
        "avel": {"task": "avel", "method": "avel", "features": "first", "seeds": [4, 0], "overrides": {}},
        "cace": {"task": "avel", "method": "cace_net", "features": "first", "seeds": [1], "overrides": {}},
        "later": {"task": "avel", "method": "avel", "features": "first", "seeds": [0], "overrides": {}},
    },
    "report": {"title": "Tiny", "baseline": None},
}


# Films: pictures and sound without B-frames and without loss in the sound, so that a part of a file decodes to the bytes of the whole.
FPS, RATE = 4, 16000
BLOCK = 4000  # samples of a packet: a whole number of them to a picture


def write_film(path: Path, frames: np.ndarray | None, waveform: np.ndarray | None, keyframe: int = 40, options: dict | None = None) -> Path:
    """(F, H, W, 3) uint8 at 4 a second and (L,) float32 at 16 kHz -> H.264 without B-frames, PCM; None leaves a stream out."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        if frames is not None:
            video = container.add_stream("libx264", rate=FPS)
            video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            video.options = {
                "crf": "12",
                "preset": "ultrafast",
                "x264-params": f"bframes=0:keyint={keyframe}:min-keyint={keyframe}:scenecut=0",
            }
        if waveform is not None:
            audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        count = len(frames) if frames is not None else len(waveform) // BLOCK
        for number in range(count):
            if video is not None:
                frame = av.VideoFrame.from_ndarray(frames[number], format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(video.encode(frame))
            if audio is not None:
                block = waveform[number * BLOCK : (number + 1) * BLOCK]
                if len(block):
                    piece = av.AudioFrame.from_ndarray((block[None] * 32767).astype(np.int16), format="s16", layout="mono")
                    piece.sample_rate, piece.pts, piece.time_base = RATE, number * BLOCK, Fraction(1, RATE)
                    container.mux(audio.encode(piece))
        for stream in (video, audio):
            if stream is not None:
                container.mux(stream.encode(None))
    return path


def part_of(path: Path, start: float, seconds: float, out: Path) -> Path:
    """The packets of [start, start + seconds) as a file of their own; ``start`` is that of a key frame."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None or not start <= float(packet.pts * packet.time_base) < start + seconds:
                continue
            shift = round(start / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return out


def span_of(path: Path, start: float, seconds: float) -> tuple[int, int]:
    """First and last byte of the packets of [start, start + seconds)."""
    with av.open(str(path)) as source:
        packets = [p for p in source.demux() if p.dts is not None and start <= float(p.pts * p.time_base) < start + seconds]
        return min(p.pos for p in packets), max(p.pos + p.size for p in packets)


@pytest.fixture(scope="session")
def films() -> SimpleNamespace:
    return SimpleNamespace(write=write_film, part_of=part_of, span_of=span_of, fps=FPS, rate=RATE)


def write_params(params: dict) -> None:
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    with open("params.yaml", "w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """The root of the project; `later` is in params.yaml and was never trained."""
    root = tmp_path_factory.mktemp("predict")
    copy_tree(tiny_root / "project/data/raw", root / "data/raw")
    copy_tree(tiny_root / "cache", root / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("AVEL_CACHE", str(root / "cache"))
        patch.setattr(train, "keep_freed_memory", lambda: None)  # this process does more than train
        write_params(PARAMS)
        index.main()
        decode.main()
        extract.main("first")
        for run in ("avel", "cace"):
            train.main(run)
            evaluate.main(run)
    return root


@pytest.fixture
def project(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project as the working directory; its params.yaml is put back afterwards."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("AVEL_CACHE", str(world / "cache"))
    yield world
    os.chdir(world)
    write_params(PARAMS)


@pytest.fixture
def edit_params(project: Path) -> Callable[[Callable[[dict], object]], None]:
    """Change params.yaml during a test, with a function that changes the document."""

    def edit(change: Callable[[dict], object]) -> None:
        params = copy.deepcopy(PARAMS)
        change(params)
        write_params(params)

    return edit


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the predictions that follow write three bytes for a picture; half of their time goes into drawing, which other tests look at."""

    def write(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"png")

    monkeypatch.setattr(outputs.timeline, "draw", write)
    monkeypatch.setattr(outputs.attention, "strip", write)


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``python -m pipeline predict ARGUMENTS`` in this process: (exit code, stdout, stderr)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pipeline", "predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return command
