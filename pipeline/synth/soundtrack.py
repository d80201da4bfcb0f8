"""Render the sound of one clip: coloured noise, its place's hums, and every audible class at a known level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.synth.plan import CATEGORIES, ClipPlan, clip_generator
from pipeline.synth.settings import SynthSettings
from pipeline.synth.sounds import SOUNDS, Wave

FADE_SECONDS = 0.02
HUMS = 350.0, 1300.0, 4500.0  # Hz, of red, green and blue
HUM_LEVELS = -52.0, -20.0  # dB re full scale (root mean square), for none of the colour, and all of it
_HUM_WIDTH = 0.12  # octaves, standard deviation of a hum's spectrum
_PEAK = 0.9
_BED, _VOICE, _HUM = 1, 2, 7  # purposes of the clip's random numbers


@dataclass(frozen=True)
class Soundtrack:
    """The parts of the sound before mixing, each (L,) float32; their sum stays within +-0.9.

    bed: coloured noise.
    hums: the hums of the place.
    voices: by class index.
    """

    bed: Wave
    hums: Wave
    voices: dict[int, Wave]

    def mixed(self) -> Wave:
        return sum(self.voices.values(), start=self.bed + self.hums)


def render_soundtrack(plan: ClipPlan, settings: SynthSettings) -> Soundtrack:
    """Render the sound of a clip.

    In every whole second of a voice its loudest 50 ms are at least 6 dB over the bed's.
    """
    rate, length = settings.audio_rate, plan.seconds * settings.audio_rate
    bed = _render_bed(clip_generator(settings, plan.split, plan.index, _BED), length, rate)
    voices = {}
    for category in sorted({span.category for span in plan.of("audio")}):
        rng = clip_generator(settings, plan.split, plan.index, _VOICE, category)
        level = rng.uniform(*settings.event_level_db)
        wave = SOUNDS[CATEGORIES[category]](rng, length, rate)
        spans = [(span.onset, span.offset) for span in plan.of("audio") if span.category == category]
        wave = _colour(rng, wave, rate, 4.0) * _gate(spans, length, rate)
        voices[category] = wave * _gain(wave, bed, spans, level, rate)
    hums = _render_hums(clip_generator(settings, plan.split, plan.index, _HUM), length, rate, plan.place)
    room = _PEAK - np.abs(hums).max()
    peak = np.abs(sum(voices.values(), start=bed)).max()
    loudness = np.float32(room / peak * 10 ** (clip_generator(settings, plan.split, plan.index, _BED, 0).uniform(-12, 0) / 20))
    return Soundtrack(bed * loudness, hums, {category: wave * loudness for category, wave in voices.items()})


def loudest(wave: Wave, rate: int) -> NDArray[np.float64]:
    """Root mean square of the loudest 50 ms of each of S seconds, (S,)."""
    block, seconds = rate // 20, len(wave) // rate
    blocks = wave.astype(np.float64).reshape(seconds, rate)[:, : 20 * block].reshape(seconds, 20, block)
    return np.sqrt((blocks**2).mean(axis=2)).max(axis=1)


def _render_bed(rng: np.random.Generator, length: int, rate: int) -> Wave:
    """Render noise between white and brown, of slowly changing loudness."""
    noise = _colour(rng, rng.standard_normal(length).astype(np.float32), rate, 6.0)
    knots = np.arange(0, length // rate + 1.5, 1.5)
    return noise * np.interp(np.arange(length) / rate, knots, rng.uniform(0.5, 1, len(knots))).astype(np.float32) / noise.std()


def _render_hums(rng: np.random.Generator, length: int, rate: int, place: Sequence[float]) -> Wave:
    """Render narrow noise around three frequencies, as loud as the place has of their colours."""
    octave = np.log2(np.maximum(np.fft.rfftfreq(length, 1 / rate), 1))
    hums = np.zeros(length)
    for frequency, level in zip(HUMS, np.interp(place, (0, 1), HUM_LEVELS), strict=True):
        spectrum = np.fft.rfft(rng.standard_normal(length)) * np.exp(-0.5 * ((octave - np.log2(frequency)) / _HUM_WIDTH) ** 2)
        hum = np.fft.irfft(spectrum, length)
        hums += hum / hum.std() * 10 ** (level / 20)
    return hums.astype(np.float32)


def _colour(rng: np.random.Generator, wave: Wave, rate: int, decibels: float) -> Wave:
    """Apply a random microphone: gains of up to +-``decibels`` per octave band, interpolated over log frequency."""
    spectrum = np.fft.rfft(wave)
    frequency = np.fft.rfftfreq(len(wave), 1 / rate)
    octaves = np.arange(6, 16)
    gains = np.interp(np.log2(np.maximum(frequency, 1)), octaves, rng.uniform(-decibels, decibels, len(octaves)))
    return np.fft.irfft(spectrum * 10 ** (gains / 20), len(wave)).astype(np.float32)


def _gate(spans: list[tuple[float, float]], length: int, rate: int) -> Wave:
    """Make a gate (L,): one within the spans, zero outside, with fades inside the span's ends."""
    fade = int(FADE_SECONDS * rate)
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(fade) / fade)
    gate = np.zeros(length, dtype=np.float32)
    for onset, offset in spans:
        first, end = round(onset * rate), round(offset * rate)
        gate[first:end] = 1
        gate[first : first + fade] = ramp
        gate[end - fade : end] = ramp[::-1]
    return gate


def _gain(wave: Wave, bed: Wave, spans: list[tuple[float, float]], level: float, rate: int) -> np.float32:
    """Factor that lifts the weakest labelled second of ``wave`` to ``level`` dB over the bed of that second.

    If no span has a whole second, the strongest of the seconds that they touch counts.
    """
    over = loudest(wave, rate) / loudest(bed, rate)
    whole = np.concatenate([np.arange(math.ceil(onset), math.floor(offset)) for onset, offset in spans]).astype(int)
    return np.float32(10 ** (level / 20) / (over[whole].min() if len(whole) else over.max()))
