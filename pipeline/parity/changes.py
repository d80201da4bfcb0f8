"""Differences an extraction may have before its network: changes of how a clip is read, prepared or encoded.

The order of channels, the times of frames, their resizing: none of these can be undone on features. So a few clips are encoded again
under each change (see :mod:`pipeline.parity.inputs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pipeline.encoders import Encoder
from pipeline.encoders.images import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from pipeline.media.settings import MediaSettings

HALF = (0.5, 0.5, 0.5)
NORMALISATIONS = {
    "ImageNet's mean and deviation": (IMAGENET_MEAN, IMAGENET_STD),
    "mean and deviation 0.5": (HALF, HALF),
    "no mean and deviation, values 0 to 1": ((0.0,) * 3, (1.0,) * 3),
}
SHAPING = {"pool", "frames", "image_size", "model"}  # settings that give features of another shape, or another network
MOST_STEPS = 4  # frames
SOUND_SHIFTS = (0.1, -0.1, 0.25, -0.25, 0.5, -0.5)  # seconds


@dataclass(frozen=True)
class Change:
    """One possible difference in the input or the encoder.

    cause: a sentence about the published features.
    factor: two changes of the same factor are not combined.
    options: settings of the encoder.
    media: settings of the decoding.
    transform: fields of the image transform.
    reverse: BGR instead of RGB.
    steps: frames are taken this many sampled frames later.
    seconds: sound is taken this much later.
    gain: factor on the sound.
    """

    name: str
    cause: str
    factor: str
    options: dict[str, Any] = field(default_factory=dict)
    media: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    reverse: bool = False
    steps: int = 0
    seconds: float = 0.0
    gain: float = 1.0

    def __or__(self, other: Change) -> Change:
        """Combine two changes of different factors."""
        return Change(
            f"{self.name} + {other.name}",
            f"{self.cause}; and {other.cause}",
            f"{self.factor} {other.factor}",
            self.options | other.options,
            self.media | other.media,
            self.transform | other.transform,
            self.reverse or other.reverse,
            self.steps + other.steps,
            self.seconds + other.seconds,
            self.gain * other.gain,
        )


NO_CHANGE = Change("as ours", "nothing", "none")


def changes(encoder: Encoder, media: MediaSettings, segment_seconds: float) -> list[Change]:
    """List all changes that are possible for this encoder, the likeliest first."""
    if encoder.modality == "audio":
        return [*_sound_changes(), *_setting_changes(encoder)]
    found = [Change("bgr", "their frames went in as BGR, not RGB", "channel order", reverse=True)]
    found += [*_step_changes(media.frames_per_segment(segment_seconds)), *_sampling_changes(media, segment_seconds)]
    if isinstance(transform := getattr(encoder, "image_transform", None), ImageTransform):
        found += _transform_changes(transform)
    return [*found, *_setting_changes(encoder)]


def _step_changes(per_segment: int) -> Iterator[Change]:
    for count in range(1, min(MOST_STEPS, max(2, per_segment - 1)) + 1):
        for steps, word in ((count, "later"), (-count, "earlier")):
            cause = f"their frames are shifted in time: taken {count} sampled frame{'s' if count > 1 else ''} {word} than ours"
            yield Change(f"frames_shifted_{steps:+d}", cause, "time", steps=steps)


def _sampling_changes(media: MediaSettings, segment_seconds: float) -> Iterator[Change]:
    for offset in (0.0, 0.25, 0.5, 0.75):
        if offset != media.frame_offset:
            cause = f"their frames were taken at another point of each sampling interval (media.frame_offset {offset:g})"
            yield Change(f"frame_offset_{offset:g}", cause, "time", media={"frame_offset": offset})
    for per_segment in (1, 2, 4, 8, 16):
        if per_segment != media.frames_per_segment(segment_seconds):
            rate = per_segment / segment_seconds
            cause = f"they took {per_segment} frames of each segment (media.frames_per_second {rate:g})"
            yield Change(f"frames_per_second_{rate:g}", cause, "sampling", media={"frames_per_second": rate})


def _transform_changes(transform: ImageTransform) -> Iterator[Change]:
    if transform.crop:
        for resize in sorted({transform.size, round(transform.size * 232 / 224), round(transform.size / 0.875)} - {transform.resize}):
            cause = f"their frames were brought to a short side of {resize} before the crop, not {transform.resize}"
            yield Change(f"resize_{resize}", cause, "resize", transform={"resize": resize})
    other = "bicubic" if transform.interpolation == "bilinear" else "bilinear"
    cause = f"their frames were resized by {other} interpolation, not {transform.interpolation}"
    yield Change(other, cause, "interpolation", transform={"interpolation": other})
    for number, (words, (mean, std)) in enumerate(NORMALISATIONS.items(), 1):
        if (mean, std) != (transform.mean, transform.std):
            cause = f"their pixels were normalised differently: {words}"
            yield Change(f"normalisation_{number}", cause, "normalisation", transform={"mean": mean, "std": std})


def _setting_changes(encoder: Encoder) -> Iterator[Change]:
    """Flip every switch of the encoder, and take every other value of its named choices."""
    config = encoder.config
    for name, known in type(config).model_fields.items():
        if name in SHAPING or name in config.places:
            continue
        value = getattr(config, name)
        others: tuple[Any, ...] = ()
        if isinstance(value, bool):
            others = (not value,)
        elif get_origin(known.annotation) is Literal:
            others = tuple(other for other in get_args(known.annotation) if other != value)
        elif name == "hop":
            others = (1.0,) if value != 1.0 else (0.96,)
        for other in others:
            cause = f"their {encoder.name} ran with {name}: {other}, ours with {name}: {value}"
            yield Change(f"{name}_{other}", cause, name, options={name: other})


def _sound_changes() -> Iterator[Change]:
    for seconds in SOUND_SHIFTS:
        word = "later" if seconds > 0 else "earlier"
        cause = f"their sound is shifted in time: taken {abs(seconds):g} s {word} than ours"
        yield Change(f"sound_shifted_{seconds:+g}", cause, "time", seconds=seconds)
    for gain, words in (
        (2.0, "twice as loud (channels summed, not averaged)"),
        (0.5, "half as loud"),
        (32768.0, "scaled as 16-bit numbers"),
    ):
        yield Change(f"gain_{gain:g}", f"their sound went in {words}", "gain", gain=gain)
