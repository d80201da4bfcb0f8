"""Films longer than the window: cut into clips with their labels, or cut off, and then said."""

from fractions import Fraction

import numpy as np
import pytest

from pipeline.cache import Cache
from pipeline.datasets import DatasetSettings, build_index, read_index, write_index
from pipeline.datasets.base import Event, Row
from pipeline.datasets.windows import all_windows, first_windows
from pipeline.errors import InputProblems
from pipeline.media.decoding import decode_clips, load_decoded, make_jobs
from pipeline.media.movie import Form, Scene, write_movie
from pipeline.media.settings import MediaSettings
from pipeline.media.unread import with_unread
from pipeline.media.windowing import Windowing
from tests.wording import one_says

SECONDS = {"short.mp4": 2.0, "long.mp4": 5.0, "odd.mp4": 4.4}
LABELS = (
    "clip,split,label,start,end\nlong,train,Dog,0.5,3\nlong.mp4,train,Cat,4,9\nshort,test,Dog,0,1\nodd,val,Cat,3,4.3\nodd,val,Dog,6,7\n"
)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    root = tmp_path_factory.mktemp("films")
    for name, seconds in SECONDS.items():
        brightness = 40 + 8 * np.arange(round(5 * seconds), dtype=np.uint8)
        pictures = np.broadcast_to(brightness[:, None, None, None], (len(brightness), 32, 32, 3))
        scene = Scene(pictures, np.zeros(round(8000 * seconds), np.float32), 8000)
        write_movie(root / name, [scene], Fraction(5), Form(crf=40, sound_rate=8000, sound_bits=8000, repeatable=False))
    (root / "cut.mp4").write_bytes(b"no film")
    return root


def index_of(films, tmp_path, windows):
    (tmp_path / "labels.csv").write_text(LABELS, encoding="utf-8")
    settings = DatasetSettings(
        kind="folder", clips=films, annotations=tmp_path / "labels.csv", segments=2, segment_seconds=1.0, windows=windows
    )
    return build_index(settings)


def spans(rows):
    return {row.clip: [(event.label, event.onset, event.offset) for event in row.events] for row in rows}


@pytest.mark.fault(6)
def test_every_film_becomes_clips_of_the_window_with_their_labels_in_its_split(films, tmp_path):
    index = index_of(films, tmp_path, "all")
    assert spans(index.rows) == {
        "cut.mp4": [],
        "long.mp4@0": [("Dog", 0.5, 2)],
        "long.mp4@2": [("Dog", 0, 1)],
        "long.mp4@4": [("Cat", 0, 2)],
        "odd.mp4@0": [],
        "odd.mp4@2": [("Cat", 1, 2)],
        "short.mp4": [("Dog", 0, 1)],
    }
    assert [row.start for row in index.rows] == [0, 0, 2, 4, 0, 2, 0]
    assert {row.clip.partition("@")[0]: row.split for row in index.rows} == {
        "cut.mp4": "none", "long.mp4": "train", "odd.mp4": "val", "short.mp4": "test",
    }  # fmt: skip
    assert one_says(index.health, "length", ": 1 (cut.mp4)")
    assert one_says(index.health, "after the end", ": 1 (odd.mp4 6-7 s Dog)")


@pytest.mark.parametrize("windows", ["all", "first"])
def test_each_clip_is_decoded_from_its_own_part_of_the_film(films, tmp_path, windows):
    media = MediaSettings(frames_per_second=1, frame_offset=0.5, workers=1)
    (tmp_path / "index").mkdir()
    write_index(index_of(films, tmp_path, windows), tmp_path / "index")
    jobs, _ = make_jobs(read_index(tmp_path / "index")[0], 2, 1.0, media, Cache(tmp_path / "cache"))
    manifest = with_unread(decode_clips(list(jobs.values()), [], media), jobs).set_index("clip")
    for clip, job in jobs.items():
        if clip != "cut.mp4":
            frames, _, _ = load_decoded(Cache(tmp_path / "cache"), clip, job.key)
            inside = manifest["visual_valid"][clip]
            shown = 40 + 8 * np.floor(5 * (job.start + 0.5 + np.arange(2)))
            assert np.abs(frames.mean(axis=(1, 2, 3)) - shown)[inside].max() < 4, clip
    unread = manifest["unread"].dropna().round().to_dict()
    assert unread == ({} if windows == "all" else {"long.mp4": 3, "odd.mp4": 2})


@pytest.mark.fault(6)
def test_labels_outside_the_first_window_are_counted_and_named(films, tmp_path):
    index = index_of(films, tmp_path, "first")
    assert spans(index.rows) == {"cut.mp4": [], "long.mp4": [("Dog", 0.5, 2)], "odd.mp4": [], "short.mp4": [("Dog", 0, 1)]}
    assert one_says(index.health, "after the first 2 s", "windows: all", ": 3 (long.mp4 4-9 s Cat, odd.mp4 3-4.3 s Cat, odd.mp4 6-7 s Dog)")
    assert one_says(index.health, "cut at the end of the first 2 s", ": 1 (long.mp4 0.5-3 s Dog)")


def test_windows_cover_a_film_once_whatever_the_length_of_a_segment():
    row = Row("a.mp4", "train", "a.mp4", (Event("av", "Dog", 0.05, 2.95),))
    rows, _ = all_windows([row], Windowing(3, 0.1), {"a.mp4": 3.0})
    assert [row.clip for row in rows] == [f"a.mp4@{start:g}" for start in (0, *(0.3 * number for number in range(1, 10)))]
    assert sum(event.offset - event.onset for row in rows for event in row.events) == pytest.approx(2.9)
    assert all(0 <= event.onset < event.offset <= 0.3 + 1e-9 for row in rows for event in row.events)
    assert first_windows([row], Windowing(30, 0.1)) == ([row], [])


def test_labels_of_a_whole_film_are_not_given_to_each_of_its_windows():
    with pytest.raises(InputProblems, match=r"a\.mp4"):
        all_windows([Row("a.mp4", "train", "a.mp4", labels=("Dog",))], Windowing(2, 1.0), {"a.mp4": 5.0})


def test_files_of_a_published_data_set_are_windows_already():
    with pytest.raises(ValueError, match="ave holds one window"):
        DatasetSettings(kind="ave", clips="c", annotations="a", segments=10, segment_seconds=1.0, windows="all")
