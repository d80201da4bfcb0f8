"""``python -m pipeline predict``: the files it writes, what it prints, its exit codes."""

import csv
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pipeline.text import distinct_names
from tests.wording import each_says, one_says, says

CLIPS = Path("data/raw/tiny/clips")


@pytest.fixture
def clips(project) -> list[Path]:
    return sorted((project / CLIPS).iterdir())


def test_a_file_gives_its_folder_of_answers(run, clips, tmp_path):
    code, out, err = run(clips[0], "--run", "cace", "--out", tmp_path, "--overlay")
    assert (code, err) == (0, "")
    directory = tmp_path / clips[0].stem
    assert {path.name for path in directory.iterdir()} == {"events.json", "segments.csv", "timeline.png", "attention.png", "overlay.mp4"}
    document = json.loads((directory / "events.json").read_text(encoding="utf-8"))
    assert (document["run"], document["seed"], document["file"], document["seconds"]) == ("cace", 1, clips[0].name, 10.0)
    assert document["windows"] == [{"start": 0.0, "segments": 10, "status": "ok", "reason": "", "good": True}]
    assert document["events"]
    for event in document["events"]:
        assert set(event) == {"start", "end", "label", "score", "modality"}
        assert event["modality"] == "audio_visual"
        assert 0 <= event["start"] < event["end"] <= 10
        assert one_says(out.splitlines(), f"{event['score']:.2f}", "audio-visual", event["label"])
    with open(directory / "segments.csv", encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [float(line["start"]) for line in lines] == list(range(10))
    covered = {second for event in document["events"] for second in range(int(event["start"]), int(event["end"]))}
    assert {number for number, line in enumerate(lines) if line["events"]} == covered
    assert all(0 <= float(line[f"{label} (audio_visual)"]) <= 1 for line in lines for label in ("Dog", "Bell"))
    check_film(directory / "overlay.mp4", clips[0], clips[1])
    for name in ("timeline.png", "attention.png"):
        assert np.asarray(Image.open(directory / name).convert("RGB")).std() > 10


def details(image):
    """A picture without its slow changes of colour, and so without the attention drawn over it, which is smooth."""
    return (image - ndimage.gaussian_filter(image.astype(np.float64), (2, 2, 0))).ravel()


def check_film(path, source, other):
    """Check that ten seconds of picture and sound come from ``source`` and not from ``other``."""
    with av.open(str(path)) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(pictures) == 150
    assert pictures[0].shape == (64 + 26, 64, 3)
    for number in (0, 149):
        shown = details(pictures[number][:64])
        likeness = [np.corrcoef(shown, details(picture(clip, number / 15 + 1 / 30)))[0, 1] for clip in (source, other)]
        assert likeness[0] > 0.6
        assert likeness[0] > likeness[1] + 0.2
    waveform, seconds = sound(path)
    assert seconds == pytest.approx(10, abs=0.05)
    loudness = [np.abs(waveform[second * 44100 : (second + 1) * 44100]).max() for second in range(10)]
    expected = [np.abs(sound(source)[0][second * 16000 : (second + 1) * 16000]).max() for second in range(10)]
    np.testing.assert_allclose(loudness, expected, rtol=0.3, atol=0.02)


def picture(path, moment):
    """The picture shown at ``moment``."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0) if frame.time <= moment][-1]


def sound(path):
    """(waveform, seconds) of a file."""
    with av.open(str(path)) as container:
        pieces = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        return np.concatenate(pieces), sum(map(len, pieces)) / container.streams.audio[0].rate


@pytest.mark.usefixtures("quick_pictures")
def test_a_file_that_fails_keeps_no_other_from_its_answer(run, clips, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video", encoding="utf-8")
    code, out, err = run(text, clips[0], tmp_path / "absent.mp4", "--run", "avel", "--seed", "0", "--out", tmp_path / "out")
    assert code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == [clips[0].stem]
    assert f"{clips[0].name}: 0:10, avel seed 0" in out
    assert each_says(err.strip().splitlines(), [("predict: ", "notes.mp4"), ("predict: ", "absent.mp4")])


def test_nothing_answered_is_code_2(run, clips, tmp_path):
    code, out, err = run(tmp_path / "absent.mp4", "--run", "avel", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert each_says(err.splitlines(), [(f"predict: {tmp_path / 'absent.mp4'}: ",)])
    assert not (tmp_path / "out").exists()
    for name in ("later", "cage"):
        code, out, err = run(clips[0], "--run", name, "--out", tmp_path / "out")
        assert (code, out) == (2, "")
        assert each_says(err.splitlines(), [(f"'{name}'",)])
    assert not (tmp_path / "out").exists()


def test_a_file_answered_in_part_is_written_and_code_1(run, clips, films, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (80, 64, 64, 3), np.uint8)
    film = films.write(tmp_path / "film.mkv", frames, np.random.default_rng(1).normal(0, 0.1, 20 * films.rate).astype(np.float32))
    content = bytearray(film.read_bytes())
    first, last = films.span_of(film, 10.5, 9.0)
    content[first:last] = bytes(last - first)
    film.write_bytes(content)
    code, _, err = run(film, "--run", "cace", "--out", tmp_path / "out", "--overlay")
    assert code == 1
    assert says(err, "10 s", "20 s", "truncated")
    assert "Traceback" not in err
    document = json.loads((tmp_path / "out/film/events.json").read_text(encoding="utf-8"))
    assert [window["good"] for window in document["windows"]] == [True, False]
    lines = (tmp_path / "out/film/segments.csv").read_text(encoding="utf-8").splitlines()
    assert lines[15].startswith("14.000,15.000,0,,,")
    with av.open(str(tmp_path / "out/film/overlay.mp4")) as overlay:
        pictures = [frame.to_ndarray(format="rgb24") for frame in overlay.decode(video=0)]
    assert len(pictures) == 300
    assert pictures[75][:64].mean() > 40 > 20 > pictures[225][:64].mean()  # black where nothing was decoded


def test_files_of_one_name_get_folders_of_their_own():
    files = [Path("a/x.mp4"), Path("b/y.mp4"), Path("c/x.mkv"), Path("d/x.mp4")]
    assert distinct_names(files) == ["x.mp4", "y", "x.mkv", "x.mp4-2"]
