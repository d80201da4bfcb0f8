"""The eight classes' sounds; each call draws a new instrument, so pitch, tempo and timbre vary from clip to clip.

Every generator takes (rng, length, rate) and returns a mono waveform (length,), float32, of arbitrary level, with a
sound at least every 0.6 s. Some pairs are kept close on purpose: bell and plucked string, rotor and engine,
bowed string and siren, clock and bark share rhythm and range and differ in the fine structure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Wave = NDArray[np.float32]
Generator = np.random.Generator


def bell(rng: Generator, length: int, rate: int) -> Wave:
    """One struck bell or a chime of four: inharmonic partials (hum, prime, tierce ...), the high ones shorter."""
    ratios = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.51, 3.01, 4.1, 5.4, 6.8]) * rng.normal(1, 0.01, 10)
    pitches = rng.uniform(160, 500) * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 12], size=rng.choice([1, 4])) / 12)
    decay = rng.uniform(0.15, 0.6) / np.sqrt(ratios)
    levels = rng.uniform(0.2, 1, 10) / np.sqrt(ratios)
    time = _seconds(int(1.2 * rate), rate)[None]
    fading = levels[:, None] * np.exp(-time / decay[:, None])
    strikes = [(fading * np.sin(2 * np.pi * pitch * ratios[:, None] * time)).sum(axis=0) for pitch in pitches]
    return _repeat(rng, length, rate, strikes, period=rng.uniform(0.25, 0.6), jitter=0.03)


def guitar(rng: Generator, length: int, rate: int) -> Wave:
    """Plucked string (Karplus and Strong 1983): a burst of noise in a delay line with a two-point average."""
    notes = rng.uniform(150, 420) * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 12], size=4) / 12)
    damping = rng.uniform(0.985, 0.997)
    plucks = []
    for pitch in notes:
        delay = max(2, int(rate / pitch))
        burst = np.zeros(int(1.0 * rate))
        burst[:delay] = signal.lfilter([1.0], [1.0, -rng.uniform(0, 0.7)], rng.standard_normal(delay))
        feedback = np.zeros(delay + 2)
        feedback[0], feedback[delay], feedback[delay + 1] = 1.0, -damping / 2, -damping / 2
        plucks.append(signal.lfilter([1.0], feedback, burst))
    return _repeat(rng, length, rate, plucks, period=rng.uniform(0.25, 0.55), jitter=0.03)


def violin(rng: Generator, length: int, rate: int) -> Wave:
    """Bowed string: a harmonic tone with vibrato that steps, sliding a little, from note to note."""
    note_length = rng.uniform(0.4, 1.2)
    count = int(np.ceil(length / rate / note_length)) + 1
    melody = rng.uniform(260, 620) * 2 ** (rng.choice([-5, -3, 0, 2, 4, 7], size=count) / 12)
    time = _seconds(length, rate)
    pitch = _glide(np.repeat(melody, int(note_length * rate) + 1)[:length], rate, rng.uniform(0.03, 0.12))
    pitch = pitch * (1 + rng.uniform(0.008, 0.02) * np.sin(2 * np.pi * rng.uniform(5, 7) * time))
    return _harmonics(rng, pitch, rate, count=9, fall=rng.uniform(0.6, 1.2))


def siren(rng: Generator, length: int, rate: int) -> Wave:
    """Siren: a tone that sweeps up and down, as a wail (smooth) or as two alternating notes."""
    time = _seconds(length, rate)
    sweep = np.sin(2 * np.pi * (time / rng.uniform(0.6, 2.4) + rng.random()))
    if rng.random() < 0.5:
        sweep = _glide(np.sign(sweep), rate, rng.uniform(0.03, 0.12))
    pitch = rng.uniform(260, 620) * 2 ** (sweep * rng.uniform(0.15, 0.45))
    return _harmonics(rng, pitch, rate, count=9, fall=rng.uniform(0.7, 1.3))


def helicopter(rng: Generator, length: int, rate: int) -> Wave:
    """Rotor: low noise whose loudness beats with the passing blades."""
    time = _seconds(length, rate)
    beat = 0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(_wander(rng, length, rate, 0.03)) / rate * rng.uniform(12, 26) + 6 * rng.random())
    noise = _lowpass(rng.standard_normal(length), rng.uniform(500, 1800), rate)
    whine = 0.1 * np.std(noise) * np.sin(2 * np.pi * rng.uniform(150, 500) * time)
    return (noise * (0.25 + beat ** rng.uniform(1, 4)) + whine).astype(np.float32)


def truck(rng: Generator, length: int, rate: int) -> Wave:
    """Engine: a sawtooth at the firing rate that hunts slowly, rough with noise."""
    turns = np.cumsum(rng.uniform(15, 40) * _wander(rng, length, rate, 0.12)) / rate
    sawtooth = 2 * (turns % 1) - 1
    rough = rng.standard_normal(length) * rng.uniform(1.5, 4.0) * (0.3 + (turns % 1))
    return _lowpass(sawtooth + rough, rng.uniform(500, 1800), rate)


def clock(rng: Generator, length: int, rate: int) -> Wave:
    """Clock: sharp ticks and tocks, each a short ring of two resonances."""
    time = _seconds(int(0.2 * rate), rate)
    ticks = []
    for _ in range(2):
        low, high = rng.uniform(600, 1500), rng.uniform(1500, 3800)
        ring = np.exp(-time / rng.uniform(0.015, 0.05))
        ticks.append(ring * (np.sin(2 * np.pi * low * time) + rng.uniform(0.3, 1) * np.sin(2 * np.pi * high * time)))
    return _repeat(rng, length, rate, ticks, period=rng.uniform(0.2, 0.5), jitter=0.004)


def dog(rng: Generator, length: int, rate: int) -> Wave:
    """Barks: bursts of a falling buzz through two formants."""
    barks = []
    for _ in range(3):
        duration = rng.uniform(0.06, 0.16)
        time = _seconds(int(duration * rate), rate)
        pitch = rng.uniform(350, 700) * np.exp(-rng.uniform(1, 3) * time)
        buzz = signal.sawtooth(2 * np.pi * np.cumsum(pitch) / rate) + 0.4 * rng.standard_normal(len(time))
        formants = sum(_resonance(buzz, centre, rate) for centre in (rng.uniform(600, 1200), rng.uniform(1500, 3000)))
        barks.append(formants * np.sin(np.pi * np.minimum(time / duration, 1)) ** 0.5)
    return _repeat(rng, length, rate, barks, period=rng.uniform(0.25, 0.6), jitter=0.03)


SOUNDS: dict[str, Callable[[Generator, int, int], Wave]] = {
    "Bell": bell,
    "Helicopter": helicopter,
    "Violin": violin,
    "Clock": clock,
    "Dog": dog,
    "Truck": truck,
    "Siren": siren,
    "Guitar": guitar,
}


def _seconds(length: int, rate: int) -> NDArray[np.float64]:
    return np.arange(length) / rate


def _repeat(rng: Generator, length: int, rate: int, strokes: list[NDArray], period: float, jitter: float) -> Wave:
    """Play the strokes in turn, one every ``period`` seconds (+-``jitter``), with overlapping tails, levels a few dB apart."""
    wave = np.zeros(length + max(map(len, strokes)))
    start = rng.uniform(0, period)
    for turn in range(int(length / rate / period) + 1):
        at = int(max(0.0, start + turn * period + rng.uniform(-jitter, jitter)) * rate)
        if at < length:
            stroke = strokes[turn % len(strokes)]
            wave[at : at + len(stroke)] += stroke * rng.uniform(0.6, 1)
    return wave[:length].astype(np.float32)


def _harmonics(rng: Generator, pitch: NDArray, rate: int, count: int, fall: float) -> Wave:
    """Sum the harmonics below the Nyquist rate, at levels of about 1 / k**fall, for a pitch (length,) in Hz."""
    phase = (2 * np.pi * np.cumsum(pitch) / rate).astype(np.float64)
    first = np.exp(1j * phase).astype(np.complex64)
    overtone, wave = np.ones_like(first), np.zeros(len(pitch), dtype=np.float32)
    for k in range(1, count + 1):
        overtone = overtone * first
        if k * pitch.max() < 0.48 * rate:
            wave += overtone.imag * np.float32(rng.uniform(0.4, 1) / k**fall)
    return wave


def _wander(rng: Generator, length: int, rate: int, depth: float) -> NDArray[np.float64]:
    """Draw a factor around 1 that drifts within about ``depth``, with a new target every half second."""
    knots = np.arange(0, length / rate + 1, 0.5)
    return np.interp(_seconds(length, rate), knots, 1 + depth * rng.uniform(-1, 1, len(knots)))


def _glide(steps: NDArray, rate: int, seconds: float) -> NDArray:
    """Smooth steps with a time constant."""
    keep = np.exp(-1 / (seconds * rate))
    return signal.lfilter([1 - keep], [1, -keep], steps, zi=[keep * steps[0]])[0]


def _lowpass(wave: NDArray, corner: float, rate: int) -> Wave:
    """Apply a first-order low-pass twice."""
    keep = np.exp(-2 * np.pi * corner / rate)
    once = signal.lfilter([1 - keep], [1, -keep], wave)
    return signal.lfilter([1 - keep], [1, -keep], once).astype(np.float32)


def _resonance(wave: NDArray, centre: float, rate: int) -> NDArray:
    return signal.lfilter(*signal.iirpeak(centre, Q=4, fs=rate), wave)
