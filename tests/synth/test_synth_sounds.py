"""The sound: levels, silence outside the spans, and sounds that differ from clip to clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.synth.plan import CATEGORIES, SECONDS, draw_world
from pipeline.synth.settings import SynthSettings
from pipeline.synth.sounds import SOUNDS
from pipeline.synth.soundtrack import HUM_LEVELS, HUMS, loudest, render_soundtrack

RATES = (16000, 22050)


def loudest_by_hand(wave: np.ndarray, rate: int, second: int) -> float:
    """Loudest 50 ms of one second, block by block in float64."""
    block = rate // 20
    pieces = [wave[second * rate + k * block : second * rate + (k + 1) * block].astype(np.float64) for k in range(20)]
    return max(float(np.sqrt(np.mean(piece * piece))) for piece in pieces)


@pytest.mark.parametrize("rate", RATES)
def test_loudest_block_of_each_second(rate: int) -> None:
    wave = np.random.default_rng(0).standard_normal(SECONDS * rate).astype(np.float32)
    wave[3 * rate + 700 : 3 * rate + 900] *= 9
    np.testing.assert_allclose(loudest(wave, rate), [loudest_by_hand(wave, rate, s) for s in range(SECONDS)], rtol=1e-6)


@pytest.mark.parametrize("name", CATEGORIES)
@pytest.mark.parametrize("rate", RATES)
def test_each_generator_sounds_in_every_second_and_never_twice_the_same(name: str, rate: int) -> None:
    waves = [SOUNDS[name](np.random.default_rng(seed), SECONDS * rate, rate) for seed in (1, 2, 1)]
    for wave in waves:
        assert wave.shape == (SECONDS * rate,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        levels = loudest(wave, rate)
        assert levels.min() > 0.15 * levels.max(), "a second of it is nearly silent"
    np.testing.assert_array_equal(waves[0], waves[2])
    assert abs(np.corrcoef(waves[0], waves[1])[0, 1]) < 0.5


@pytest.mark.parametrize("rate", RATES)
def test_labelled_seconds_stand_out_of_the_bed_and_others_are_silent(rate: int) -> None:
    settings = SynthSettings(train_clips=24, val_clips=1, test_clips=1, audio_rate=rate, event_level_db=(6.0, 9.0))
    checked = 0
    for plan in draw_world(settings):
        track = render_soundtrack(plan, settings)
        audible = {(span.category, second) for span in plan.of("audio") for second in range(span.onset, span.offset)}
        assert set(track.voices) == {category for category, _ in audible}
        bed = [loudest_by_hand(track.bed, rate, second) for second in range(SECONDS)]
        for category, voice in track.voices.items():
            for second in range(SECONDS):
                if (category, second) in audible:
                    ratio = loudest_by_hand(voice, rate, second) / bed[second]
                    assert ratio >= 10 ** (5.99 / 20)
                    checked += 1
                else:
                    assert not voice[second * rate : (second + 1) * rate].any()
    assert checked > 150


def test_the_weakest_second_has_the_level_asked_for() -> None:
    settings = SynthSettings(train_clips=8, val_clips=1, test_clips=1, event_level_db=(12.0, 12.0))
    for plan in draw_world(settings)[:8]:
        track = render_soundtrack(plan, settings)
        for category, voice in track.voices.items():
            seconds = [s for span in plan.of("audio") if span.category == category for s in range(span.onset, span.offset)]
            ratios = [loudest_by_hand(voice, 16000, s) / loudest_by_hand(track.bed, 16000, s) for s in seconds]
            assert 20 * np.log10(min(ratios)) == pytest.approx(12.0, abs=0.01)


@pytest.mark.parametrize("place", [(0.0, 0.5, 1.0), (1.0, 0.0, 0.25), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("rate", RATES)
def test_each_colour_of_the_place_hums_as_loud_as_there_is_of_it(place: tuple[float, float, float], rate: int) -> None:
    settings = SynthSettings(train_clips=1, val_clips=1, test_clips=1, audio_rate=rate)
    hums = render_soundtrack(replace(draw_world(settings)[0], place=place), settings).hums.astype(np.float64)
    power = np.abs(np.fft.rfft(hums)) ** 2 * 2 / len(hums) ** 2  # by Parseval: sums to the mean square
    frequency = np.fft.rfftfreq(len(hums), 1 / rate)
    bands = [(frequency > centre / 1.5) & (frequency < centre * 1.5) for centre in HUMS]
    levels = [10 * np.log10(power[band].sum()) for band in bands]
    np.testing.assert_allclose(levels, HUM_LEVELS[0] + (HUM_LEVELS[1] - HUM_LEVELS[0]) * np.array(place), atol=0.05)
    assert power[~np.any(bands, axis=0)].sum() < 1e-3 * power.sum()
    for band, centre in zip(bands, HUMS, strict=True):
        assert np.average(np.log2(frequency[band]), weights=power[band]) == pytest.approx(np.log2(centre), abs=0.02)


def test_the_mix_is_the_sum_of_its_parts_and_does_not_clip() -> None:
    settings = SynthSettings(train_clips=8, val_clips=1, test_clips=1)
    for plan in draw_world(settings):
        track = render_soundtrack(plan, settings)
        mixed = track.mixed()
        np.testing.assert_allclose(mixed, np.sum([track.bed, track.hums, *track.voices.values()], axis=0), atol=1e-6)
        assert 0.1 < np.abs(mixed).max() <= 0.9001
        assert mixed.dtype == np.float32
