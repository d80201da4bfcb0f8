"""Draw what happens in every clip of a demo world of the kind ``single``, before anything is rendered.

Each clip lasts ten seconds and holds exactly one audio-visual event: one class audible and visible at the same whole seconds.
Around it the class may continue as sound without picture or the reverse, and another class may sound or be shown, so that neither
modality alone locates the event.

Every clip also has a place of its own, with matching look and sound: a background of some red, some green and some blue, and for each
colour a hum that is louder the more of it there is. Place and event are drawn independently. As in real recordings, the place shows which
picture belongs to which sound, which contrastive fine-tuning learns from, and nothing about class or time.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synth.settings import SynthSettings

CATEGORIES = ("Bell", "Helicopter", "Violin", "Clock", "Dog", "Truck", "Siren", "Guitar")
SPLITS = ("train", "val", "test")
SECONDS = 10
WORLD_VERSION = 3  # raised by hand whenever a code change alters a clip; part of every clip's id
SHORTEST = 2  # seconds of the main event, at least
_ACCOMPANIED_SHARE = 0.15  # share of clips with distractors in which another sound or picture lasts through the whole event
_FILLED_SHARE = 0.8  # share of their stretches without the event's class in a modality that show another class
_PLACE = 6  # purpose of the clip's random numbers, beside those of the scene and the soundtrack


@dataclass(frozen=True)
class Span:
    """A class that is audible (``audio``), visible (``visual``) or both (``av``) during the seconds [onset, offset).

    Whole seconds in a world of the kind ``single``, tenths in a dense one.
    """

    modality: str
    category: int
    onset: float
    offset: float


@dataclass(frozen=True)
class ClipPlan:
    """One clip: its name, its split, its audio-visual events, and all audio and visual spans.

    events: exactly one in a world of the kind ``single``.
    spans: the longest possible ones per modality and class: two spans of one class never touch.
    place: the amount of red, green and blue, and of the hum of each, in [0, 1].
    """

    id: str
    split: str
    index: int  # within the split
    events: tuple[Span, ...]
    spans: tuple[Span, ...]
    place: tuple[float, float, float]
    seconds: int = SECONDS

    @property
    def event(self) -> Span:
        """The first event."""
        return self.events[0]

    def of(self, modality: str) -> list[Span]:
        return [span for span in self.spans if span.modality == modality]


def clip_generator(settings: SynthSettings, split: str, index: int, *purpose: int) -> np.random.Generator:
    """Random numbers of one clip and purpose, independent of the order in which clips are drawn."""
    return np.random.default_rng([settings.seed, SPLITS.index(split), index, *purpose])


def draw_world(settings: SynthSettings) -> list[ClipPlan]:
    """Draw the plans of all clips, split by split; a pure function of the settings."""
    return [draw_clip(settings, split, index) for split, index in clip_numbers(settings)]


def clip_numbers(settings: SynthSettings) -> list[tuple[str, int]]:
    """List (split, number in it) of every clip."""
    counts = {"train": settings.train_clips, "val": settings.val_clips, "test": settings.test_clips}
    return [(split, index) for split in SPLITS for index in range(counts[split])]


def draw_clip(settings: SynthSettings, split: str, index: int) -> ClipPlan:
    """Draw the plan of one clip; each block of eight clips has every class once as the main event."""
    category = main_category(settings, split, index)
    rng = clip_generator(settings, split, index)
    onset, offset = _draw_event(rng, settings)
    audio, visual = _draw_surroundings(rng, settings, category, onset, offset)
    spans = [Span("audio", c, *run) for c in range(len(CATEGORIES)) for run in runs(audio[c])]
    spans += [Span("visual", c, *run) for c in range(len(CATEGORIES)) for run in runs(visual[c])]
    event = Span("av", category, onset, offset)
    return ClipPlan(clip_id(settings, split, index), split, index, (event,), tuple(spans), draw_place(settings, split, index))


def draw_place(settings: SynthSettings, split: str, index: int) -> tuple[float, float, float]:
    """Draw the amount of each colour of a clip's place."""
    red, green, blue = clip_generator(settings, split, index, _PLACE).random(3).tolist()
    return red, green, blue


def main_category(settings: SynthSettings, split: str, index: int) -> int:
    """Draw the class of a clip's first event: each block of eight clips has every class once."""
    block, place = divmod(index, len(CATEGORIES))
    order = np.random.default_rng([settings.seed, SPLITS.index(split), block, 99, 99]).permutation(len(CATEGORIES))
    return int(order[place])


def _draw_event(rng: np.random.Generator, settings: SynthSettings) -> tuple[int, int]:
    """Draw onset and offset of the main event in seconds."""
    if rng.random() < settings.full_length_share:
        return 0, SECONDS
    length = int(rng.integers(SHORTEST, SECONDS))
    onset = int(rng.integers(0, SECONDS - length + 1))
    return onset, onset + length


def _draw_surroundings(
    rng: np.random.Generator, settings: SynthSettings, category: int, onset: int, offset: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw which classes are audible and which are visible in each second.

    The other sound and the other picture belong to two different classes, so they make no second audio-visual event.

    Returns:
        audio, visual: bool (C, SECONDS).
    """
    audio = np.zeros((len(CATEGORIES), SECONDS), dtype=bool)
    visual = audio.copy()
    audio[category, onset:offset] = visual[category, onset:offset] = True
    others = rng.permutation([c for c in range(len(CATEGORIES)) if c != category])
    other_sound, other_picture = int(others[0]), int(others[1])
    distracted = rng.random() < settings.distractor_share

    for start, stop in ((0, onset), (offset, SECONDS)):
        goes_on = rng.random() < settings.single_share
        lone = audio if rng.random() < 0.5 else visual
        if goes_on:
            lone[category, start:stop] = True
        sound_here, picture_here = rng.random(2) < _FILLED_SHARE
        if distracted and sound_here and not audio[category, start:stop].any():
            audio[other_sound, start:stop] = True
        if distracted and picture_here and not visual[category, start:stop].any():
            visual[other_picture, start:stop] = True

    if distracted and rng.random() < _ACCOMPANIED_SHARE:
        # all through the event: with two classes in one modality, only the other shows which is the event's
        start, stop = int(rng.integers(0, onset + 1)), int(rng.integers(offset, SECONDS + 1))
        if rng.random() < 0.5:
            audio[other_sound, start:stop] = True
        else:
            visual[other_picture, start:stop] = True
    return audio, visual


def runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find [first, end) of each longest stretch of True in (N,)."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]])))
    return [(int(a), int(b)) for a, b in zip(steps[::2], steps[1::2], strict=True)]


def clip_id(settings: SynthSettings, split: str, index: int) -> str:
    """Name a clip in eleven characters, like a YouTube id.

    It does not begin with "-", which a shell would take for an option.
    It is a hash of all that shapes the clip, so a file of that name can only be this clip of this world.
    """
    digest = hashlib.sha256(f"{WORLD_VERSION} {settings.shaping} {split} {index}".encode()).digest()
    name = base64.urlsafe_b64encode(digest).decode()[:11]
    return "x" + name[1:] if name.startswith("-") else name
