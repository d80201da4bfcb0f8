"""What has a version raised by hand, and a few numbers of each: made from seeds and names alone, so that no file is needed.

Media is coded without loss and weights are a function of a parameter's name, so that neither an encoder's version nor a random generator
moves a number: only the code does whose version it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import h5py
import numpy as np
import pandas as pd
import torch

from pipeline.cache import Cache
from pipeline.contrastive import data as contrastive
from pipeline.datasets import DatasetSettings
from pipeline.encoders import ENCODERS, VisualEncoder, create
from pipeline.features import clip_encoder
from pipeline.features.extraction import Extraction
from pipeline.features.importing import Import, ImportSet, importer
from pipeline.features.settings import FeatureSet
from pipeline.features.store import FeatureStore
from pipeline.media.clip import decode_clip
from pipeline.media.job import DECODE_VERSION, KIND, Job
from pipeline.media.settings import MediaSettings
from pipeline.synth import plan as world
from pipeline.synth.dense import draw_dense_world
from pipeline.synth.scenes import render_scene
from pipeline.synth.settings import SynthSettings
from pipeline.synth.soundtrack import render_soundtrack

Numbers = dict[str, list[float]]
REACH = 1e-4  # how far a number may be off, as a share of the largest of its group
GREY_LEVEL = 0.02  # of a normalised picture: resizing rounds to whole grey levels, which the processor's own routines may do otherwise

FOLDERS = Path(__file__).resolve().parents[1] / "encoders/data"
ENCODER_SETTINGS: dict[str, dict] = {
    "logmel": {},
    "yamnet": {"weights": "none"},
    "vggish": {"weights": "none"},
    "cnn14": {"weights": "none"},
    "resnet50": {"weights": "none", "image_size": 64},
    "resnet152": {"weights": "none", "image_size": 32},
    "r2plus1d_18": {"weights": "none", "image_size": 32},
    "vgg19": {"weights": "none", "image_size": 32},
    "efficientnet_lite0": {"weights": "none", "image_size": 64},
    "timm": {"weights": "none", "image_size": 64, "model": "resnet18"},
    "clip": {"weights": "none", "image_size": 32, "model": "vit_xsmall_patch16_clip_224"},
    "clap": {"weights": "none", "folder": str(FOLDERS / "clap")},
    "ast": {"weights": "none", "folder": str(FOLDERS / "ast")},
    "waveform_transformer": {"weights": "none", "folder": str(FOLDERS / "wav2vec2")},
    "hear": {"weights": "none", "module": str(FOLDERS / "tiny_hear.py")},
}


@dataclass(frozen=True)
class Subject:
    """place: where the version stands. numbers: makes them in an empty directory."""

    place: str
    version: int
    numbers: Callable[[Path], Numbers]


def random(tag: str, *shape: int) -> np.ndarray:
    """Standard normal numbers that follow from ``tag``: of numpy's legacy generator, whose stream is fixed for good."""
    state = np.random.RandomState(int.from_bytes(hashlib.sha256(tag.encode()).digest()[:4], "big"))
    return np.resize(state.standard_normal(min(int(np.prod(shape)), 2**16)), shape).astype(np.float32)


def fill(network: torch.nn.Module) -> None:
    """Weights that follow from the parameters' names, of a size that keeps a deep network's activations near their input's."""
    filled = {}
    for name, value in network.state_dict().items():
        numbers = random(f"w:{name}", *value.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            numbers = 1 + 0.1 * np.abs(numbers)
        elif value.dim() > 1:
            numbers *= np.sqrt(2 / np.prod(value.shape[1:]))
        else:
            numbers = (0.5 if name.endswith("weight") else 0) + 0.1 * numbers
        filled[name] = torch.from_numpy(np.asarray(numbers, np.float32))
    network.load_state_dict(filled, strict=False)


def some(values: np.ndarray | torch.Tensor, count: int = 8) -> list[float]:
    """Mean, spread, and ``count`` of the values, evenly placed."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    picked = flat[np.linspace(0, len(flat) - 1, count).round().astype(int)]
    return [float(f"{number:.9g}") for number in (flat.mean(), flat.std(), *picked)]


def pictures(count: int, height: int, width: int, block: int = 8) -> np.ndarray:
    """(F, H, W, 3) uint8 of blocks of ``block`` pixels: of 8, halving them rounds nothing."""
    blocks = random("pictures", count, -(-height // block), -(-width // block), 3)
    return np.clip(128 + 60 * blocks, 0, 255).astype(np.uint8).repeat(block, 1).repeat(block, 2)[:, :height, :width]


def sound(rate: int, seconds: float) -> np.ndarray:
    """(L,) float32: a rising tone in faint noise."""
    clock = np.arange(round(rate * seconds)) / rate
    return (0.4 * np.sin(2 * np.pi * (150 + 300 * clock) * clock) + 0.01 * random("noise", len(clock))).astype(np.float32)


def decoded(directory: Path) -> Numbers:
    """A film of 2.75 s whose sound is stereo and begins a quarter of a second late, from 0.5 s on, four segments of 0.75 s."""
    path, frames, rate = directory / "film.mkv", pictures(11, 48, 64), 8000
    left = np.round(sound(rate, 2.0) * 32767).astype(np.int16)
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("ffv1", rate=4), container.add_stream("pcm_s16le", rate=rate, layout="stereo")
        video.height, video.width, video.pix_fmt = 48, 64, "bgr0"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 4)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        piece = av.AudioFrame.from_ndarray(np.stack([left, left // 2], 1).reshape(1, -1), format="s16", layout="stereo")
        piece.sample_rate, piece.pts, piece.time_base = rate, rate // 4, Fraction(1, rate)
        container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    numbers: Numbers = {}
    for name, changes in (("whole", {}), ("small", {"frame_size": 24, "frame_offset": 0.0})):
        settings = MediaSettings.model_validate({"frames_per_second": 4, **changes})
        clip = decode_clip(path, start=0.5, segments=4, segment_seconds=0.75, settings=settings)
        assert clip.frames is not None
        assert clip.waveform is not None
        numbers[f"{name}, frames"] = some(clip.frames, 16)
        numbers[f"{name}, shape"] = list(map(float, clip.frames.shape))
        numbers[f"{name}, mean of each frame"] = clip.frames.mean(axis=(1, 2, 3)).round(4).tolist()
        numbers[f"{name}, sound"] = some(clip.waveform, 16)
        found = [clip.status == "padded", clip.sample_rate == rate, clip.video_coverage, clip.audio_coverage, clip.seconds]
        numbers[f"{name}, verdict"] = [float(value) for value in (*found, *clip.visual_valid, *clip.audio_valid)]
    return numbers


def cached_clips(directory: Path) -> tuple[Cache, dict[str, Job], pd.DataFrame]:
    """Two decoded clips of three segments with two frames each, as `decode` would leave them."""
    cache, jobs, rows = Cache(directory / "cache"), {}, []
    for number in range(2):
        job = Job(f"clip{number}", f"clip{number}.mp4", f"{number:064x}", 0.0, 3, 1.0, MediaSettings(frames_per_second=2), cache.root)
        arrays = {"frames": np.roll(pictures(6, 32, 32), number, axis=0), "waveform": np.roll(sound(16_000, 3.0), 9000 * number)}
        cache.put(KIND, job.key, arrays, {"sample_rate": 16_000})
        jobs[job.clip] = job
        rows.append({"clip": job.clip, "key": job.key, "status": "padded", "seconds": 2.4})
        rows[-1] |= {"visual_valid": [True, True, False], "audio_valid": [True] * 3, "split": "train", "sha256": job.sha256}
    return cache, jobs, pd.DataFrame(rows)


def extracted(directory: Path) -> Numbers:
    """Frames of the network's own size, so that nothing is resized."""
    cache, jobs, manifest = cached_clips(directory)
    numbers: Numbers = {}
    for frames in ("mean", "keep"):
        visual = {"encoder": "timm", "model": "test_resnet", "weights": "none", "image_size": 32, "resize": 32, "frames": frames}
        settings = FeatureSet.model_validate({"visual": visual, "audio": {"encoder": "logmel"}, "dtype": "float32", "device": "cpu"})
        extraction = Extraction(settings, jobs, cache, workers=1)
        fill(extraction.encoder.encoders["visual"].network)
        (store := directory / frames).mkdir()
        extraction.run(manifest, store)
        read = FeatureStore(store)
        values = read.read("visual", list(jobs))
        numbers[f"visual, {frames}"] = some(values, 24)
        numbers[f"visual, {frames}, shape"] = list(map(float, values.shape))
        numbers[f"valid, {frames}"] = read.valid(list(jobs)).astype(float).ravel().tolist()
    numbers["audio"] = some(read.read("audio", list(jobs)))
    return numbers


def contrastive_audio(directory: Path) -> Numbers:
    cache, jobs, rows = cached_clips(directory)
    selection = contrastive.select(rows, rows, jobs)
    features = contrastive.audio_features(cache, create("logmel"), selection.train, torch.device("cpu"))
    draws = [contrastive.draw_middle(item) for item in selection.train]
    return {
        **{clip: some(values) for clip, values in features.items()},
        "pooled": some(contrastive.pooled_audio(features, draws)),
        "frames drawn": [float(place) for draw in draws for place in draw.frames],
    }


def imported(directory: Path) -> Numbers:
    """Four rows of three segments, one of them a second row of its clip, two negatives behind; maps with time and frames joined."""
    visual, audio = random("visual", 6, 3 * 2, 2, 4), random("audio", 6, 3, 5)
    for name, values in (("visual", visual), ("audio", audio)):
        for suffix, part in (("", values[:4]), ("_noisy", values[4:])):
            with h5py.File(directory / f"{name}{suffix}.h5", "w") as file:
                file.create_dataset("avadataset", data=part.astype(np.float64))
    dataset = DatasetSettings(kind="ave", clips="data/none", annotations="x", segments=3, segment_seconds=1.0, negatives=2)
    clips, splits = ["a", "b", "a", "c", "negative-000", "negative-001"], ["train"] * 4 + ["negative"] * 2
    rows = pd.DataFrame({"row": range(6), "clip": clips, "split": splits, "seconds": np.full(6, np.nan)})
    sources = {"visual": {"file": "visual.h5", "shape": [2, 2, 4], "negatives": "visual_noisy.h5"}}
    sources["audio"] = {"file": "audio.h5", "shape": [5], "negatives": "audio_noisy.h5"}
    importing = Import(ImportSet.model_validate({"directory": directory, "dtype": "float16", **sources}), dataset, rows)
    importing.check()
    (store := directory / "store").mkdir()
    importing.run(store)
    read = FeatureStore(store)
    entries = read.entries(rows)
    return {
        "entries": entries.astype(float).tolist(),
        "visual": some(read.read_entries("visual", entries)),
        "audio": some(read.read_entries("audio", entries)),
    }


def drawn_world(draw: Callable[[SynthSettings], list[world.ClipPlan]], kind: str, directory: Path) -> Numbers:
    settings = SynthSettings(kind=kind, seed=5, train_clips=2, val_clips=1, test_clips=1, picture_size=64)
    plans = draw(settings)
    spans = [[span.category, span.onset, span.offset] for plan in plans for span in plan.spans]
    first = plans[0]
    return {
        "spans": [float(number) for span in spans for number in span],
        "places": [value for plan in plans for value in plan.place],
        "mean of every tenth picture": render_scene(first, settings)[::10].mean(axis=(1, 2, 3)).tolist(),
        "sound": some(render_soundtrack(first, settings).mixed(), 16),
    }


def encoded(name: str, directory: Path) -> Numbers:
    """Front end and network apart: the pictures that the network sees are not those that were resized."""
    encoder = create(name, **ENCODER_SETTINGS[name])
    if hasattr(encoder, "network"):
        fill(encoder.network)
    if isinstance(encoder, VisualEncoder):
        prepared = encoder.prepare(torch.from_numpy(pictures(4, 90, 120, block=3)), 2)
        batch = torch.from_numpy(random("batch", *prepared[:2].shape))
    else:
        prepared = encoder.prepare(torch.from_numpy(sound(22_050, 2.2)), 22_050, 2, 1.0)  # type: ignore[attr-defined]
        batch = prepared
    with torch.inference_mode():
        features = encoder.encode(batch)
    return {"prepared": some(prepared, 40), "features": some(features, 24), "shape": list(map(float, features.shape))}


SUBJECTS = {
    "decode": Subject("pipeline/media/job.py: DECODE_VERSION", DECODE_VERSION, decoded),
    "extract": Subject("pipeline/features/clip_encoder.py: EXTRACT_VERSION", clip_encoder.EXTRACT_VERSION, extracted),
    "contrastive audio": Subject("pipeline/contrastive/data.py: AUDIO_VERSION", contrastive.AUDIO_VERSION, contrastive_audio),
    "import": Subject("pipeline/features/importing/importer.py: IMPORT_VERSION", importer.IMPORT_VERSION, imported),
    "demo world": Subject("pipeline/synth/plan.py: WORLD_VERSION", world.WORLD_VERSION, partial(drawn_world, world.draw_world, "single")),
    "dense world": Subject("pipeline/synth/plan.py: WORLD_VERSION", world.WORLD_VERSION, partial(drawn_world, draw_dense_world, "dense")),
    **{
        f"encoder {name}": Subject(f"{ENCODERS.get(name).__name__}.version", ENCODERS.get(name).version, partial(encoded, name))
        for name in ENCODERS.names()
        if name in ENCODER_SETTINGS
    },
}
