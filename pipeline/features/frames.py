"""Frames for the clips of an extraction that are not stored: decoded again, and handed to the encoders in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import replace
from itertools import chain

from pipeline.features.clip_encoder import KIND as FEATURES
from pipeline.features.clip_encoder import Clip, ClipEncoder, InHand
from pipeline.media.decoding import decode_in_hand
from pipeline.media.job import KIND as DECODED


def with_frames(clips: Iterable[Clip], encoder: ClipEncoder) -> Iterable[Clip]:
    """Return the clips, decoding again, a few ahead, those whose frames are not stored.

    The order is none in particular. A clip that needs no frames, because its visual features are there, stays as it is. So does one that
    does not decode: whoever reads it tries again, alone, and says why. Clips in the making (not a list) bring what they have.
    """
    if not isinstance(clips, Sized):
        return clips
    bare = needing_frames(clips, encoder)
    known = {id(clip) for clip in bare}
    return chain([clip for clip in clips if id(clip) not in known], _decoded(bare)) if bare else clips


def needing_frames(clips: Iterable[Clip], encoder: ClipEncoder) -> list[Clip]:
    """Choose the clips that must be decoded again to be encoded: their frames are neither in hand nor stored."""
    cache, asked = encoder.cache, [clip for clip in clips if clip.in_hand is None]
    encoded = cache.present(FEATURES, (clip.keys["visual"] for clip in asked))
    asked = [clip for clip in asked if clip.keys["visual"] not in encoded]
    stored = cache.present(DECODED, (clip.job.key for clip in asked))
    return [clip for clip in asked if clip.job.key not in stored]


def _decoded(clips: list[Clip]) -> Iterator[Clip]:
    by_key = {clip.job.key: clip for clip in clips}
    lost = [clip for clip in clips if by_key[clip.job.key] is not clip]  # same bytes, other features: read one by one
    for job, verdict, arrays in decode_in_hand([clip.job for clip in by_key.values()], clips[0].job.settings):
        clip = by_key[job.key]
        yield clip if arrays is None else replace(clip, in_hand=InHand(arrays, verdict["sample_rate"]))
    yield from lost
