"""One case of the corruption campaign: damage a valid file, decode it, and compare the answer with the intact file's.

An answer is **silently short** when it claims more than it holds: a picture from another moment stands, more than once in a row, where
the intact file has its own, or there is digital silence where the intact file sounds, and
    * the status is ``ok``, which claims the whole window, or
    * the status is another good one and more than half of a segment marked valid is missing so.
What lies beyond ``seconds``, the end of the clip that the answer states, is told and not silent. Counted apart, as nothing is missing
there: pictures that are wrong without being another moment's (undetected damage), and those that stand elsewhere without repeating (a
damaged clock that is still consistent).
"""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.media.clip import DecodedClip, decode_clip
from pipeline.media.guard import Failure, run_guarded
from pipeline.media.settings import MediaSettings

SETTINGS = MediaSettings(frames_per_second=5, frame_size=64)
BANK = MediaSettings(frames_per_second=20, frame_size=64)  # every picture of an intact file, to know a stand-in by
SAME, OTHER = 1.0, 2.0  # mean difference in grey levels up to which two pictures are one, and from which they are two
NEAR_SECONDS = 0.25  # a picture from no further away is in place: two pictures at 8 a second, as one lost picture is no loss
BLOCK_SECONDS = 0.1
LIMITS = {"timeout_seconds": 30.0, "memory_mb": 2048}  # of one case
KINDS = ("cut", "flip", "zero", "insert", "length", "header")


@dataclass(frozen=True)
class Case:
    """``source``: a valid file of ``segments`` seconds; ``seed`` decides the damage."""

    source: str
    seed: int
    segments: int


@dataclass(frozen=True)
class Verdict:
    """What came of a case: kind of damage, status, and whether the answer is short, spoiled, or moved (see the module)."""

    kind: str
    status: str
    short: bool
    spoiled: bool
    moved: bool


def campaign(sources: Sequence[Path], cases: int, seed: int, workers: int, segments: int) -> list[tuple[Case, Verdict | Failure]]:
    """Every case's outcome; case n damages source n (modulo their number), a file of ``segments`` seconds."""
    jobs = [Case(str(sources[number % len(sources)]), seed * 1_000_003 + number, segments) for number in range(cases)]
    return list(run_guarded(examine, jobs, workers=workers, **LIMITS))


def damaged(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """(kind, content) with one damage: cut off, bits flipped, a stretch zeroed, bytes inserted, a length field or the header rewritten."""
    data = bytearray(content)
    at = rng.randrange(len(data))
    kind = rng.choice(KINDS)
    if kind == "cut":
        del data[at:]
    elif kind == "flip":
        for _ in range(rng.choice((1, 20, 400))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "zero":
        data[at : at + 2000] = bytes(len(data[at : at + 2000]))
    elif kind == "insert":
        data[at:at] = rng.randbytes(500)
    elif kind == "length":
        data[at : at + 4] = struct.pack(">I", rng.getrandbits(32))
    else:
        for _ in range(rng.choice((1, 4, 16))):
            data[rng.randrange(min(2000, len(data)))] = rng.randrange(256)
    return kind, bytes(data)


def examine(case: Case) -> Verdict:
    """Damage, decode, compare. Runs in a child process."""
    source = Path(case.source)
    kind, content = damaged(source.read_bytes(), random.Random(case.seed))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / source.name
        path.write_bytes(content)
        clip = decode_clip(path, start=0.0, segments=case.segments, segment_seconds=1.0, settings=SETTINGS)
    intact, bank = intact_pictures(case.source, case.segments)
    return Verdict(kind, clip.status, *judge(clip, intact, bank))


@lru_cache(maxsize=32)
def intact_pictures(source: str, segments: int) -> tuple[DecodedClip, np.ndarray]:
    """The intact file as decoded, and every picture of it, (B, H, W, 3) uint8."""
    clip, bank = (decode_clip(source, start=0.0, segments=segments, segment_seconds=1.0, settings=each) for each in (SETTINGS, BANK))
    if clip.status != "ok" or bank.frames is None:
        raise ValueError(f"{source}: not a valid file of {segments} s: {clip.status} {clip.reason}")
    return clip, bank.frames


def judge(clip: DecodedClip, intact: DecodedClip, bank: np.ndarray) -> tuple[bool, bool, bool]:
    """(short, spoiled, moved) of what ``clip`` claims.

    Args:
        bank: (B, H, W, 3) uint8, every picture of the intact file.
    """
    if clip.frames is None or clip.waveform is None or intact.frames is None or intact.waveform is None:
        return False, False, False
    stated = np.arange(len(intact.frames)) / SETTINGS.frames_per_second < clip.seconds
    silent = _sounding(intact) & _zeros(clip) & (np.arange(len(_zeros(clip))) * BLOCK_SECONDS < clip.seconds)
    if clip.frames.shape != intact.frames.shape:  # the header now tells another size
        return _short(clip, np.zeros(len(clip.frames), bool), silent), True, False
    elsewhere = _moments_away(clip.frames, bank)
    wrong = (_difference(clip.frames, intact.frames) > OTHER) & (elsewhere > NEAR_SECONDS) & stated
    foreign = np.isfinite(elsewhere)
    again = _difference(clip.frames[1:], clip.frames[:-1]) <= SAME
    repeated = np.concatenate([[False], again]) | np.concatenate([again, [False]])
    claimed = np.repeat(clip.visual_valid, len(wrong) // len(clip.visual_valid))
    spoiled, moved = (bool((wrong & claimed & each).any()) for each in (~foreign, foreign & ~repeated))
    return _short(clip, wrong & foreign & repeated, silent), spoiled, moved


def _moments_away(frames: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """(F,) seconds between the time of each picture and the nearest at which the intact file shows it; infinite where it never does."""
    times = (np.arange(len(bank)) + BANK.frame_offset) / BANK.frames_per_second
    away = np.full(len(frames), np.inf)
    for number, frame in enumerate(frames):
        shown = times[_difference(frame[None], bank) <= SAME]
        if len(shown):
            away[number] = np.abs(shown - (number + SETTINGS.frame_offset) / SETTINGS.frames_per_second).min()
    return away


def _short(clip: DecodedClip, pictures: np.ndarray, silent: np.ndarray) -> bool:
    if clip.status == "ok":
        return bool(pictures.any() or silent.sum() > 1)  # a block of slack, as coverage has
    shares = [
        (missing.reshape(len(valid), -1).mean(1), valid) for missing, valid in ((pictures, clip.visual_valid), (silent, clip.audio_valid))
    ]
    return any(bool(((share > 0.5) & valid).any()) for share, valid in shares)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Mean absolute difference in grey levels, picture by picture: (F,)."""
    return np.abs(ours.astype(np.int16) - theirs.astype(np.int16)).mean(axis=(1, 2, 3))


def _blocks(clip: DecodedClip) -> np.ndarray:
    """(blocks, samples) of the waveform, whole blocks of 0.1 s."""
    assert clip.waveform is not None
    size = max(1, round(clip.sample_rate * BLOCK_SECONDS))
    count = round(len(clip.audio_valid) / BLOCK_SECONDS)
    return (
        np.resize(clip.waveform, (count, size)) if len(clip.waveform) < count * size else clip.waveform[: count * size].reshape(count, size)
    )


def _sounding(clip: DecodedClip) -> np.ndarray:
    return np.sqrt((_blocks(clip) ** 2).mean(1)) > 1e-3


def _zeros(clip: DecodedClip) -> np.ndarray:
    return ~_blocks(clip).any(1)
