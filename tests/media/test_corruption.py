"""The corruption campaign on a few files: what it counts, and that there is nothing to count."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pipeline.media.guard import Failure
from tests.media import damage
from tests.media.damage import campaign

SEGMENTS = 4


@pytest.fixture
def judged(sound_clip):
    """Verdict on the intact answer after ``changes``: (short, spoiled, moved)."""
    intact, bank = damage.intact_pictures(str(sound_clip), SEGMENTS)

    def judge(**changes):
        return damage.judge(replace(intact, **changes), intact, bank)

    judge.intact = intact
    return judge


@pytest.mark.fault(2)
def test_random_damage_never_crashes_hangs_or_comes_back_short(sound_clip, make_clip):
    webm = make_clip("other.webm", codec="libvpx-vp9", audio_codec="libopus", rate=48000)
    sources = [sound_clip, make_clip("other.mkv"), webm]
    outcomes = campaign(sources, cases=60, seed=20, workers=2, segments=SEGMENTS)
    assert len({case for case, _ in outcomes}) == 60
    failures = [(case, outcome) for case, outcome in outcomes if isinstance(outcome, Failure)]
    assert not failures
    assert [(case, verdict) for case, verdict in outcomes if verdict.short] == []
    assert {verdict.kind for _, verdict in outcomes} == set(damage.KINDS)
    statuses = Counter(verdict.status for _, verdict in outcomes)
    assert {"ok", "unreadable", "partial"} < set(statuses)  # the damage was neither always fatal nor always harmless
    assert statuses["ok"] < 40


def test_the_same_seed_is_the_same_damage(sound_clip):
    content = sound_clip.read_bytes()
    first, second, third = (damage.damaged(content, random.Random(seed)) for seed in (4, 4, 5))
    assert first == second != third
    assert first[1] != content


def test_an_intact_answer_is_no_fault(judged):
    assert judged() == (False, False, False)


def test_pictures_that_stand_in_for_others_are_short(judged):
    frames = judged.intact.frames.copy()
    frames[10:] = frames[9]
    assert judged(frames=frames) == (True, False, False)
    partial = {"status": "partial", "frames": frames}
    assert judged(**partial)[0]
    assert not judged(**partial, visual_valid=np.array([True, True, False, False]))[0]  # told, so not silent


def test_silence_where_there_was_sound_is_short(judged):
    waveform = judged.intact.waveform.copy()
    waveform[len(waveform) // 2 :] = 0
    assert judged(waveform=waveform) == (True, False, False)
    partial = {"status": "partial", "waveform": waveform}
    assert judged(**partial)[0]
    assert not judged(**partial, audio_valid=np.array([True, True, False, False]))[0]


def test_damaged_and_misplaced_pictures_are_told_apart_from_missing_ones(judged):
    frames = judged.intact.frames.copy()
    frames[5] = 255 - frames[5]
    assert judged(frames=frames) == (False, True, False)
    assert judged(frames=judged.intact.frames[::-1]) == (False, False, True)
    assert judged(frames=np.zeros((20, 8, 8, 3), np.uint8))[1:] == (True, False)
