"""Draw what happens in every clip of a demo world of the kind ``dense``, as in UnAV-100's untrimmed videos.

A clip lasts 10 to 60 whole seconds and holds audio-visual events of one to three classes, up to three of each, which begin and end at any
tenth of a second and may overlap. Their lengths are log-normal. Where a class has no event, it may go on as sound without picture or the
reverse; in some clips another class is audible, and yet another visible, and neither is an event. A clip's place is that of
:mod:`pipeline.synth.plan`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.synth.plan import CATEGORIES, ClipPlan, Span, clip_generator, clip_id, clip_numbers, draw_place, main_category, runs
from pipeline.synth.settings import SynthSettings

SHORTEST_CLIP, LONGEST_CLIP = 10, 60  # seconds
TENTHS = 10  # in a second; all moments are whole tenths
GAP = 2 * TENTHS  # between two events of a class, at least
CLASSES_OF_A_CLIP = 0.60, 0.27, 0.13  # share of clips with 1, 2 and 3 classes
EVENTS_OF_A_CLASS = 0.20, 0.40, 0.40
APART, TRIES = 0.7, 20  # share of the further classes that take, of so many draws, the one that overlaps the others least
MEDIAN_LENGTH, SIGMA, SHORTEST, LONGEST = 6.4, 1.2, 1.0, 0.8  # of an event: seconds, log-normal, seconds, share of the clip
_PLAN = 8  # purpose of the clip's random numbers


def draw_dense_world(settings: SynthSettings) -> list[ClipPlan]:
    """Draw the plans of all clips, split by split; a pure function of the settings."""
    return [draw_dense_clip(settings, split, index) for split, index in clip_numbers(settings)]


def draw_dense_clip(settings: SynthSettings, split: str, index: int) -> ClipPlan:
    """Draw the plan of one clip; each block of eight clips has every class once as the first."""
    rng = clip_generator(settings, split, index, _PLAN)
    seconds = int(rng.integers(SHORTEST_CLIP, LONGEST_CLIP + 1))
    count = 1 + int(rng.choice(len(CLASSES_OF_A_CLIP), p=CLASSES_OF_A_CLIP))
    first = main_category(settings, split, index)
    order = [first, *(int(c) for c in rng.permutation(len(CATEGORIES)) if c != first)]
    whole = rng.random() < settings.full_length_share
    audio = np.zeros((len(CATEGORIES), seconds * TENTHS), dtype=bool)
    visual = audio.copy()
    for position, category in enumerate(order[:count]):
        tries = TRIES if position > 0 and rng.random() < APART else 1
        drawn = [_draw_events(rng, seconds * TENTHS) for _ in range(tries)]
        taken = (audio & visual).any(axis=0)
        events = np.ones_like(taken) if whole and position == 0 else min(drawn, key=lambda stretch: int((stretch & taken).sum()))
        audio[category] = visual[category] = events
        for start, stop in runs(~events):
            if rng.random() < settings.single_share:
                (audio if rng.random() < 0.5 else visual)[category, start:stop] = True
    if rng.random() < settings.distractor_share:
        audio[order[count]] = _draw_events(rng, seconds * TENTHS)
        visual[order[count + 1]] = _draw_events(rng, seconds * TENTHS)
    spans = _spans("audio", audio) + _spans("visual", visual)
    place = draw_place(settings, split, index)
    return ClipPlan(clip_id(settings, split, index), split, index, _spans("av", audio & visual), spans, place, seconds)


def _draw_events(rng: np.random.Generator, tenths: int) -> NDArray[np.bool_]:
    """Draw one to three stretches of a clip, (tenths,) bool, at least :data:`GAP` apart; fewer if they do not fit."""
    count = 1 + int(rng.choice(len(EVENTS_OF_A_CLASS), p=EVENTS_OF_A_CLASS))
    drawn = TENTHS * np.exp(rng.normal(math.log(MEDIAN_LENGTH), SIGMA, count))
    lengths = np.clip(np.round(drawn), SHORTEST * TENTHS, LONGEST * tenths).astype(int)
    while (free := tenths - lengths.sum() - GAP * (len(lengths) - 1)) < 0:
        lengths = lengths[:-1]
    before = np.sort(rng.integers(0, free + 1, len(lengths)))  # of the free tenths, those before each stretch
    active = np.zeros(tenths, dtype=bool)
    for number, (length, skipped) in enumerate(zip(lengths, before, strict=True)):
        start = skipped + lengths[:number].sum() + GAP * number
        active[start : start + length] = True
    return active


def _spans(modality: str, active: NDArray[np.bool_]) -> tuple[Span, ...]:
    """List the stretches of (C, tenths) bool, class by class."""
    return tuple(
        Span(modality, category, start / TENTHS, end / TENTHS) for category in range(len(active)) for start, end in runs(active[category])
    )
