"""Folders of numbered pictures and sound files of their own, against the films that they were cut from."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from pipeline.datasets import DatasetSettings, build_index, write_index
from pipeline.datasets.sounds import sound_files
from pipeline.media.clip import decode_clip
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from pipeline.media.sounds import sound_beside
from pipeline.media.survey import survey
from pipeline.tables import read_table

RATE, FPS, SECONDS = 16_000, 8, 4
MEDIA = MediaSettings(frames_per_second=4, pictures_per_second=FPS)
WINDOW = {"start": 0.0, "segments": SECONDS, "segment_seconds": 1.0}


def images(count: int = SECONDS * FPS) -> np.ndarray:
    """(F, 48, 64, 3) uint8, smooth, each of another hue."""
    y, x = np.mgrid[0:48, 0:64] / 48
    shades = [
        np.stack([80 + 60 * np.sin(3 * x + place / 3), 120 + 50 * np.cos(2 * y), 60 + 3 * place + 0 * x], -1) for place in range(count)
    ]
    return np.stack(shades).clip(0, 255).astype(np.uint8)


def tone(seconds: float = SECONDS) -> np.ndarray:
    """(L,) int16, a rising tone."""
    clock = np.arange(round(RATE * seconds)) / RATE
    return np.round(12_000 * np.sin(2 * np.pi * (200 + 150 * clock) * clock)).astype(np.int16)


def write_film(path: Path) -> Path:
    """Pictures without loss and PCM."""
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("ffv1", rate=FPS), container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        video.height, video.width, video.pix_fmt = 48, 64, "bgr0"
        for place, image in enumerate(images()):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        piece = av.AudioFrame.from_ndarray(tone()[None], format="s16", layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    return path


def write_pictures(folder: Path, first: int = 1, count: int = SECONDS * FPS) -> Path:
    image = pytest.importorskip("PIL.Image")
    folder.mkdir(parents=True)
    for place, pixels in enumerate(images(count)):
        image.fromarray(pixels).save(folder / f"{first + place:04}.jpg", quality=95, subsampling=0)
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "a.mkv")


@pytest.fixture
def folder(tmp_path):
    """a/0001.jpg ... beside a.flac."""
    soundfile.write(tmp_path / "a.flac", tone(), RATE)
    return write_pictures(tmp_path / "a")


@pytest.mark.parametrize("start", [0.0, 1.5])
def test_pictures_and_their_sound_decode_like_the_film(film, folder, start):
    window = {**WINDOW, "start": start, "segments": 2}
    theirs, ours = decode_clip(film, settings=MEDIA, **window), decode_clip(folder, settings=MEDIA, **window)
    assert (ours.status, theirs.status, ours.reason) == ("ok", "ok", "")
    assert ours.frames.shape == theirs.frames.shape
    difference = np.abs(ours.frames.astype(int) - theirs.frames.astype(int))
    assert difference.mean() < 2  # what JPEG takes away; neighbouring pictures are three levels apart in one channel alone
    assert difference.max() < 24
    blues = (ours.frames[..., 2].mean((1, 2)) - theirs.frames[..., 2].mean((1, 2))).round()
    assert not blues.any()  # the very pictures
    np.testing.assert_array_equal(ours.waveform, theirs.waveform)
    assert (ours.facts["container"], ours.facts["video_codec"], ours.facts["fps"]) == ("pictures", "mjpeg", FPS)
    assert survey(folder, MEDIA).status == ""


def test_a_film_takes_its_sound_from_the_folder_of_sounds(film, tmp_path):
    (tmp_path / "sounds").mkdir()
    louder = np.stack([tone(), tone()], axis=1)
    soundfile.write(tmp_path / "sounds/a.wav", louder, RATE)
    with_sounds = MEDIA.with_sounds(tmp_path / "sounds")
    ours, theirs = decode_clip(film, settings=with_sounds, **WINDOW), decode_clip(film, settings=MEDIA, **WINDOW)
    np.testing.assert_array_equal(ours.waveform, theirs.waveform)
    assert ours.facts["channels"] == 2
    (tmp_path / "sounds/a.wav").rename(tmp_path / "sounds/b.wav")
    silent = decode_clip(film, settings=with_sounds, **WINDOW)
    assert (silent.status, silent.waveform.any()) == ("silent", False)
    assert "dataset.sounds" in silent.reason


@pytest.mark.parametrize(("seconds", "valid"), [(2.2, [True, True, False, False]), (7.0, [True] * 4)])
def test_a_sound_of_another_length_is_said(folder, seconds, valid):
    soundfile.write(folder.parent / "a.flac", tone(seconds), RATE)
    clip = decode_clip(folder, settings=MEDIA, **WINDOW)
    assert clip.audio_valid.tolist() == valid
    assert clip.visual_valid.all()
    assert clip.status == ("ok" if all(valid) else "padded")
    assert f"sound file lasts {seconds:.2f} s, its pictures 4.00 s" in clip.reason


def test_lost_damaged_and_odd_pictures_are_seen(folder):
    image = pytest.importorskip("PIL.Image")
    for place in range(9, 17):  # the second second
        (folder / f"{place:04}.jpg").unlink()
    (folder / "0020.jpg").write_bytes((folder / "0020.jpg").read_bytes()[:200])
    image.new("RGB", (10, 10)).save(folder / "0022.jpg")
    (folder / "note.txt").write_text("no picture", encoding="utf-8")
    clip = decode_clip(folder, settings=MEDIA.model_copy(update={"min_coverage": 0.5}), **WINDOW)
    assert clip.status == "partial"
    assert clip.visual_valid.tolist() == [True, False, True, True]
    assert "0020.jpg" in clip.reason
    assert clip.video_coverage == pytest.approx(9 / 15)  # of the samples before the last picture: four lost, one damaged, one odd
    assert decode_clip(folder, settings=MEDIA, **WINDOW).status == "truncated"


def test_pictures_without_a_rate_or_without_numbers_are_one_sentence(folder, tmp_path):
    without = decode_clip(folder, settings=MediaSettings(frames_per_second=4), **WINDOW)
    assert (without.status, "media.pictures_per_second" in without.reason) == ("refused", True)
    (tmp_path / "empty").mkdir()
    assert decode_clip(tmp_path / "empty", settings=MEDIA, **WINDOW).status == "missing"
    (folder.parent / "a.flac").write_bytes(b"fLaC and no more")
    damaged = decode_clip(folder, settings=MEDIA, **WINDOW)
    assert damaged.status == "unreadable"
    assert "a.flac" in damaged.reason


@pytest.mark.fault(25)
def test_the_rate_of_pictures_is_in_their_key_alone(film, folder, tmp_path):
    def key(path: Path, rate: float | None) -> str:
        return Job(path.name, str(path), "0" * 64, 0.0, 4, 1.0, MEDIA.model_copy(update={"pictures_per_second": rate}), tmp_path).key

    assert key(folder, 8) != key(folder, 16)
    assert key(film, 8) == key(film, 16) == key(film, None)


@pytest.mark.fault(25)
def test_the_index_finds_them_and_hashes_all_that_a_clip_is_read_from(film, tmp_path):
    clips, sounds = tmp_path / "clips", tmp_path / "sounds"
    write_pictures(clips / "set/a.b")
    write_pictures(clips / "c", count=8)
    shutil.copy2(film, clips / "film.mkv")
    for name in ("set/a.b.wav", "film.wav", "nobody.wav"):
        (sounds / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(sounds / name, tone(1.0), RATE)
    settings = DatasetSettings(kind="folder", clips=clips, annotations=clips, sounds=sounds, segments=4, segment_seconds=1.0)

    def indexed(name: str, **changes) -> dict[str, str]:
        (tmp_path / name).mkdir()
        health = write_index(build_index(settings.model_copy(update=changes), MEDIA), tmp_path / name, settings.model_copy(update=changes))
        rows = read_table(tmp_path / name / "index.parquet")
        indexed.health = health
        return dict(zip(rows["clip"], rows["sha256"], strict=True))

    before = indexed("first")
    assert {*before} == {"c", "film.mkv", "set/a.b"}
    assert [line for line in indexed.health if "sound" in line] == [
        "clips without a sound file in dataset.sounds: 1 (c)",
        "sound files of no clip: 1 (nobody.wav)",
    ]
    soundfile.write(sounds / "film.wav", tone(1.5), RATE)
    (clips / "c/0003.jpg").rename(clips / "c/0009.jpg")
    after = indexed("second")
    assert [clip for clip in before if before[clip] != after[clip]] == ["c", "film.mkv"]
    assert indexed("third", sounds=None)["film.mkv"] not in (before["film.mkv"], after["film.mkv"])
    lengths = build_index(settings.model_copy(update={"windows": "all", "segments": 2}), MEDIA)
    assert [row.clip for row in lengths.rows] == ["c", "film.mkv@0", "film.mkv@2", "set/a.b@0", "set/a.b@2"]


@pytest.mark.fault(15)
def test_sounds_beyond_links_are_left_out_and_said(film, tmp_path):
    """No stage depends on what lies there: its change would go unnoticed, and it is no part of the folder that was named."""
    clips, sounds, secret = tmp_path / "clips", tmp_path / "sounds", tmp_path / "secret"
    for folder in (clips / "set", sounds, secret):
        folder.mkdir(parents=True)
    for name in ("a", "b", "c", "set/d"):
        shutil.copy2(film, clips / f"{name}.mkv")
    for path in (secret / "a.wav", secret / "d.wav", sounds / "c.wav"):
        soundfile.write(path, tone(1.0), RATE)
    (sounds / "a.wav").symlink_to(secret / "a.wav")
    (sounds / "set").symlink_to(secret)
    (sounds / "b.wav").symlink_to(sounds / "c.wav")
    (sounds / "folder.wav").mkdir()
    (sounds / "lost.wav").symlink_to(sounds / "nothing.wav")
    settings = DatasetSettings(kind="folder", clips=clips, annotations=clips, sounds=sounds, segments=4, segment_seconds=1.0)
    found = {name: sound_beside(clips / f"{name}.mkv", sounds) for name in ("a", "b", "c", "set/d")}
    assert found == {"a": None, "b": sounds / "b.wav", "c": sounds / "c.wav", "set/d": None}
    assert sound_files(sounds) == [sounds / "b.wav", sounds / "c.wav"]
    assert (
        "linked folders in dataset.sounds, and links that lead out of it, left out: 2 (a.wav, set)" in build_index(settings, MEDIA).health
    )
