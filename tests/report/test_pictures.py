"""Timelines, attention and films: what is drawn where, from numbers chosen by hand."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.encoders.images import ImageTransform, visible_share
from pipeline.report import attention, bars, timeline
from pipeline.report.attention import AttendedScene
from pipeline.report.preview import PICTURE_HEIGHT, join, preview, silence
from pipeline.tasks.lanes import Lane
from pipeline.tasks.tracks import FoundEvent, Tracks

WHOLE = {"crop": False, "size": 64, "resize": 64}
CROPPED = {"crop": True, "size": 64, "resize": 80}


def some_tracks(segments, classes=3, names=("audio_visual",), seed=0):
    random = np.random.default_rng(seed)
    scores = {name: random.random((segments, classes)).astype(np.float32) for name in names}
    return Tracks(tuple(f"Class {n}" for n in range(classes)), scores, {n: s > 0.6 for n, s in scores.items()}, np.ones(segments, bool))


def some_preview(segments, size=(48, 64), first=0, every=1):
    frames = np.random.default_rng(1).integers(0, 255, (segments * 2, *size, 3), np.uint8)
    return preview(frames, np.sin(np.arange(segments * 8000) / 50).astype(np.float32), 8000, segments, every, first)


def test_every_segment_is_correct_missed_false_or_nothing():
    decided = np.array([0, 1, 1, 1, 0, 0, 1], bool)
    truth = np.array([0, 0, 1, 1, 1, 0, 0], bool)
    found = [(style, first, end) for style, first, end in bars.verdicts(decided, truth)]
    assert sorted(((style.name, first, end) for style, first, end in found), key=lambda bar: bar[1]) == [
        ("predicted, false", 1, 2), ("predicted, correct", 2, 4), ("missed", 4, 5), ("predicted, false", 6, 7),
    ]  # fmt: skip
    assert [bar[1:] for bar in bars.verdicts(decided, None)] == [(1, 4), (6, 7)]


def test_right_and_wrong_are_told_apart_without_colour():
    styles = (bars.CORRECT, bars.MISSED, bars.FALSE)
    assert len({style.symbol for style in styles}) == 3
    assert len({(style.hatch, style.line) for style in styles}) == 3
    greys = [np.mean([int(style.face[i : i + 2], 16) for i in (1, 3, 5)]) for style in styles]
    assert min(abs(a - b) for i, a in enumerate(greys) for b in greys[:i]) > 20


def test_lanes_are_those_with_events_then_the_likeliest():
    scores = np.array([[0.1, 0.2, 0.9, 0.3], [0.1, 0.8, 0.2, 0.4]], np.float32)
    tracks = Tracks(("a", "b", "c", "d"), {"audio_visual": scores}, {"audio_visual": scores > 0.5}, np.ones(2, bool))
    assert timeline.shown_lanes(tracks, None, 3) == ([("audio_visual", 2), ("audio_visual", 1), ("audio_visual", 3)], 0)
    truth = {"audio_visual": np.array([[1, 0, 0, 0], [1, 0, 0, 0]], bool)}
    assert timeline.shown_lanes(tracks, truth, 1) == ([("audio_visual", 0), ("audio_visual", 2), ("audio_visual", 1)], 0)
    many = some_tracks(20, 12)
    lanes, left_out = timeline.shown_lanes(many, None, 3)
    assert (len(lanes), left_out) == (8, 4)


def test_spans_of_one_class_that_overlap_stand_on_rows_of_their_own():
    found = [FoundEvent(*span, "a", 0.9, "audio_visual") for span in ((0.3, 4.2), (3.9, 6.0), (6.0, 7.5))]
    grid = np.ones((8, 2), np.float32)
    tracks = Tracks(
        ("a", "b"), {"audio_visual": grid}, {"audio_visual": grid > 0}, np.ones(8, bool), (*found, replace(found[0], label="b"))
    )
    _, answers = bars.span_bars(tracks, None, "audio_visual", 0, 1.0)
    assert [(bar.start, bar.end, bar.level, bar.levels) for bar in answers] == [(0.3, 4.2, 0, 2), (3.9, 6.0, 1, 2), (6.0, 7.5, 0, 2)]
    judged = [Lane("audio_visual", [[1, 9, 0, "true"]], [[0.6, 8.4, 0, "right"], [2.0, 3.0, 1, "false"]], [0.5] * 16)]
    true, answers = bars.span_bars(tracks, judged, "audio_visual", 0, 0.5)
    assert [(bar.style, bar.start, bar.end) for bar in true + answers] == [(bars.TRUE, 0.5, 4.5), (bars.CORRECT, 0.3, 4.2)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7, "0:07"), (59.96, "1:00"), (62.5, "1:02.5"), (750, "12:30"), (3600, "1:00:00"), (3725.04, "1:02:05")],
)
def test_clock(seconds, text):
    assert timeline.clock(seconds) == text


def test_a_timeline_shows_its_bars_and_is_the_same_every_time(tmp_path):
    tracks, shown = some_tracks(10), some_preview(10)
    truth = {"audio_visual": some_tracks(10, seed=5).active["audio_visual"]}
    for name in ("a", "b"):
        timeline.draw(tmp_path / f"{name}.png", tracks, shown, 1.0, truth=truth, title="A clip")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).reshape(-1, 3).tolist()
    for style in (bars.TRUE, bars.CORRECT, bars.FALSE):
        colour = [int(style.face[i : i + 2], 16) for i in (1, 3, 5)]
        assert pixels.count(colour) > 300, style.name


def height(path):
    return Image.open(path).height


def test_long_short_and_unknown_stretches_can_be_drawn(tmp_path):
    odd = some_tracks(3, 1, ("audio", "visual", "audio_visual"))
    timeline.draw(tmp_path / "short.png", odd, some_preview(3, (64, 20)), 0.32)
    quiet = some_tracks(10)
    quiet = Tracks(quiet.classes, quiet.scores, {"audio_visual": quiet.active["audio_visual"] & False}, np.arange(10) < 5)
    timeline.draw(tmp_path / "quiet.png", quiet, silence(10.0), 1.0)
    long = join([some_preview(10, first=10 * number, every=60) for number in range(20)])
    timeline.draw(tmp_path / "long.png", some_tracks(200), long, 1.0, title="x" * 40)
    hour = some_tracks(3600, 28)
    hour.active["audio_visual"][:] = np.arange(3600)[:, None] // 40 % 28 == np.arange(28)
    timeline.draw(tmp_path / "hour.png", hour, long, 1.0)
    assert height(tmp_path / "long.png") > 3 * 0.5 * height(tmp_path / "quiet.png")  # four panels
    assert height(tmp_path / "hour.png") < 4000


def test_a_preview_keeps_pictures_of_its_segments_and_the_loudness():
    frames = np.stack([np.full((40, 80, 3), 10 * number, np.uint8) for number in range(20)])
    waveform = np.concatenate([np.zeros(8000), 0.5 * np.ones(8000)]).astype(np.float32)
    found = preview(frames, waveform, 1600, 10, every=4, first=10)
    assert list(found.segments) == [12, 16]
    assert found.pictures.shape == (2, PICTURE_HEIGHT, 2 * PICTURE_HEIGHT, 3)
    assert [int(picture[0, 0, 0]) for picture in found.pictures] == [50, 130]  # of two frames a segment the second: 5 and 13
    assert len(found.peaks) == 500
    assert (found.peaks[:250] == 0).all()
    assert (found.peaks[250:] == 0.5).all()
    whole = join([found, silence(2.0), found])
    assert (len(whole.segments), len(whole.peaks)) == (4, 1100)


@pytest.mark.parametrize("size", [(90, 160), (160, 90), (100, 100), (120, 121)])
def test_the_visible_share_is_the_crop_of_the_transform(size):
    """Painted marks come through the real transform exactly when they lie inside the share."""
    import torch

    transform = ImageTransform(64, 80, True, "bilinear", (0.0,) * 3, (1.0,) * 3)
    tall, wide = visible_share(transform.spec(), *size)
    for axis, share in ((0, tall), (1, wide)):
        edge = (1 - share) / 2 * size[axis]
        for offset, shown in ((-4, False), (4, True)):
            frame = np.zeros((*size, 3), np.uint8)
            line = edge + offset
            if line < 1:
                continue
            index = [slice(None), slice(None)]
            index[axis] = slice(int(line), int(line) + 2)
            frame[tuple(index)] = 255
            assert bool(transform(torch.from_numpy(frame)[None]).max() > 0.3) == shown
    assert visible_share(ImageTransform(64, 64, False, "bilinear", (0.0,) * 3, (1.0,) * 3).spec(), *size) == (1.0, 1.0)


def test_even_attention_draws_nothing():
    picture = np.random.default_rng(0).integers(0, 255, (70, 70, 3), np.uint8)
    even = np.full((7, 7), 1 / 49)
    np.testing.assert_array_equal(attention.overlay(picture, even, WHOLE, attention.ceiling(even[None])), picture)


def test_attention_is_drawn_where_it_is_and_the_crop_is_shaded():
    picture = np.full((80, 160, 3), 100, np.uint8)
    weights = np.zeros((4, 4))
    weights[0, 3] = 1.0  # the upper right corner of what the network sees
    drawn = attention.overlay(picture, weights, CROPPED, attention.ceiling(weights[None])).astype(int)
    changed = np.abs(drawn - 100).sum(axis=2) > 0
    inside = np.zeros_like(changed)
    inside[8:72, 48:112] = True  # 0.8 of the short side, 80, in the middle
    assert (drawn[~inside] == 45).all()
    rows, columns = np.nonzero(changed & inside)
    assert columns.min() >= 48 + 64 // 2
    assert rows.max() < 8 + 64 // 2
    brightest = np.unravel_index(np.where(inside, drawn.sum(axis=2), 0).argmax(), inside.shape)
    assert brightest[0] < 8 + 16
    assert brightest[1] >= 48 + 48


def test_the_scale_is_in_even_shares_and_never_below_two():
    even = np.full((3, 5, 5), 1 / 25)
    assert attention.ceiling(even) == 2.0
    even[1, 2, 2] = 0.5
    assert attention.ceiling(even) == pytest.approx(12.5)


@pytest.mark.parametrize("count", [1, 5, 7])
def test_a_strip_has_rows_of_five(tmp_path, count):
    pictures = np.random.default_rng(0).integers(0, 255, (count, 60, 80, 3), np.uint8)
    weights = np.random.default_rng(1).dirichlet(np.ones(16), count).reshape(count, 4, 4)
    attention.strip(tmp_path / "strip.png", pictures, weights, WHOLE, [f"0:0{n}  Accordion (audio-visual)" for n in range(count)], "A clip")
    width, tall = Image.open(tmp_path / "strip.png").size
    assert (width > 1000) == (count >= 5)
    assert (tall > 400) == (count > 5)


def tone(seconds, rate, hertz):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_a_film_of_pieces_keeps_picture_sound_and_time_together(tmp_path):
    size = (41, 63)  # odd: H.264's colour format needs even ones
    scenes = [
        AttendedScene(np.full((15, *size, 3), 200, np.uint8), ["0:00  Dog"] * 15, tone(1.0, 16000, 440), 16000),
        AttendedScene(np.full((15, *size, 3), 120, np.uint8), ["0:01"] * 15, tone(0.5, 48000, 1000), 48000),  # half of its sound is missing
        AttendedScene(np.full((15, *size, 3), 30, np.uint8), ["0:02"] * 15, tone(2.0, 48000, 2000), 48000),  # and here there is too much
    ]
    attention.movie(tmp_path / "film.mp4", iter(scenes), WHOLE, 2.0, Fraction(15))
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    with av.open(str(tmp_path / "film.mp4")) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    with av.open(str(tmp_path / "film.mp4")) as film:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
    assert len(pictures) == 45
    assert [round(float(pictures[n][:40].mean()) / 10) for n in (7, 22, 37)] == [20, 12, 3]
    assert len(sound) / 44100 == pytest.approx(3.0, abs=0.05)
    for second, hertz in ((0.5, 440), (1.25, 1000), (2.5, 2000)):
        piece = sound[round((second - 0.2) * 44100) : round((second + 0.2) * 44100)]
        assert np.abs(np.fft.rfft(piece)).argmax() / (len(piece) / 44100) == pytest.approx(hertz, abs=3)
    assert np.abs(sound[round(1.6 * 44100) : round(1.9 * 44100)]).max() < 0.01
    assert pictures[0][42:].max() > 150  # the caption
    assert pictures[0][42:].mean() < 100


def test_a_film_that_breaks_off_leaves_nothing(tmp_path):
    def scenes():
        yield AttendedScene(np.zeros((15, 32, 32, 3), np.uint8), [""] * 15, tone(1.0, 16000, 440), 16000)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError):
        attention.movie(tmp_path / "film.mp4", scenes(), WHOLE, 2.0, Fraction(15))
    assert not list(tmp_path.iterdir())
