"""Files beside the page: copied if a browser plays them, else made smaller, or a reason why there is nothing to play."""

from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest

from pipeline.media.clip import decode_clip
from pipeline.media.movie import write_clip
from pipeline.media.settings import MediaSettings
from pipeline.report.page.media import playable_as, take_along

RATE = 16000


def tone(seconds):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(RATE * seconds)) / RATE)).astype(np.float32)


def brightening(seconds, fps=8, size=(48, 64)):
    """Frames from dark to bright, so that a picture shows its time."""
    levels = np.linspace(20, 230, int(seconds * fps)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (len(levels), *size, 3)).copy()


def write_plain(path, codec, pix_fmt, seconds=4, fps=8):
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = 64, 48, pix_fmt
        audio = container.add_stream("pcm_s16le" if path.suffix == ".avi" else "aac", rate=RATE)
        audio.layout = "mono"
        for image in brightening(seconds, fps):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray((tone(seconds) * 32767).astype(np.int16)[None], format="s16", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = RATE, Fraction(1, RATE), 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """(directory, answers by name) for clips of every kind, with a limit of 100 kB."""
    root = tmp_path_factory.mktemp("media")
    write_clip(root / "good.mp4", brightening(4), 8, tone(4), RATE)
    write_plain(root / "old.avi", "mpeg4", "yuv420p")
    write_plain(root / "deep.mp4", "libx264", "yuv444p")
    noise = np.random.default_rng(0).integers(0, 256, (32, 96, 128, 3), np.uint8)
    write_clip(root / "large.mp4", noise, 8, tone(4), RATE)
    (root / "broken.mp4").write_bytes((root / "good.mp4").read_bytes()[:300])
    names = ["good.mp4", "old.avi", "deep.mp4", "large.mp4", "broken.mp4", None]
    assert (root / "large.mp4").stat().st_size > 100_000
    files = pd.DataFrame({"file": [name and str(root / name) for name in names], "start": [0.0, 2.0, 0.0, 0.0, 0.0, 0.0]}, index=range(6))
    out = root / "out"
    out.mkdir()
    answers = take_along(files, 2.0, 0.1, out)
    return root, out, dict(zip(["good", "old", "deep", "large", "broken", "absent"], (answers[n] for n in range(6)), strict=True))


def test_a_file_that_browsers_play_is_copied(taken):
    root, out, answers = taken
    assert answers["good"] == {"src": "media/clip-000000.mp4", "offset": 0.0}
    source, copy = root / "good.mp4", out / answers["good"]["src"]
    assert packets(copy) == packets(source)
    intact, copied = (decode_clip(path, start=0.0, segments=4, segment_seconds=1.0, settings=MediaSettings()) for path in (source, copy))
    assert copied.status == "ok"
    np.testing.assert_array_equal(copied.frames, intact.frames)
    np.testing.assert_array_equal(copied.waveform, intact.waveform)


def packets(path):
    """(time, bytes) of every packet, by stream."""
    with av.open(str(path)) as container:
        found = [(packet.stream.type, packet.pts * packet.time_base, bytes(packet)) for packet in container.demux() if packet.size]
    return sorted(found)


SECRETS = ["+48.8577+002.2950/", "Ada Author", "a comment of mine", "Camera X", "my street", "2019-03-04"]


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".mov", {}), (".mp4", {}), (".mp4", {"movflags": "use_metadata_tags"}), (".webm", {})],
    ids=["xyz", "loci", "mdta", "webm"],
)
def test_what_a_camera_or_an_author_wrote_into_a_file_is_not_published(tmp_path, suffix, options):
    """Atoms ``udta`` (with ``©xyz``, where it was) and ``mdta`` of MP4, tags of Matroska; of the file, and of each track."""
    plain = tmp_path / "plain.mp4"
    write_clip(plain, brightening(4), 8, tone(4), RATE)
    source = tmp_path / f"secret{suffix}"
    keys = ("location", "artist", "comment", "com.apple.quicktime.model", "title", "creation_time")
    if suffix == ".webm":
        with av.open(str(source), "w") as writer:
            video, audio = writer.add_stream("libvpx", rate=8), writer.add_stream("libopus", rate=48000)
            video.width, video.height, video.pix_fmt, audio.layout = 64, 48, "yuv420p", "mono"
            writer.metadata.update(dict(zip(keys, SECRETS, strict=True)))
            video.metadata["title"] = "my street"
            for image in brightening(4):
                writer.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            writer.mux(video.encode())
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 96000), np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.time_base, sound.pts = 48000, Fraction(1, 48000), 0
            writer.mux(audio.encode(sound))
            writer.mux(audio.encode())
    else:
        with av.open(str(plain)) as reader, av.open(str(source), "w", options=options) as writer:
            writer.metadata.update(dict(zip(keys, SECRETS, strict=True)))
            copies = {stream.index: writer.add_stream_from_template(stream) for stream in reader.streams}
            copies[0].metadata["handler_name"] = "my street"
            for packet in reader.demux():
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    writer.mux(packet)
    present = [secret for secret in SECRETS if secret.encode() in source.read_bytes()]
    assert {"Ada Author", "my street"} <= set(present)
    with av.open(str(source)) as container:
        assert "location" in {key.lower() for key in container.metadata}
    out = tmp_path / "out"
    out.mkdir()
    [answer] = take_along(pd.DataFrame({"file": [str(source)], "start": [0.0]}), 4.0, 10.0, out).values()
    copy = out / answer["src"]
    assert answer == {"src": f"media/clip-000000{suffix.replace('mov', 'mp4')}", "offset": 0.0}
    assert [secret for secret in SECRETS if secret.encode() in copy.read_bytes()] == []
    with av.open(str(copy)) as container:
        kept = {key.lower() for each in (container, *container.streams) for key in each.metadata}
    assert kept <= {
        "major_brand",
        "minor_version",
        "compatible_brands",
        "language",
        "handler_name",
        "vendor_id",
        "duration",
        "encoder",
    }
    assert [piece for _, _, piece in packets(copy)] == [piece for _, _, piece in packets(source)]


def test_the_page_reads_no_playlist(tmp_path):
    """The same whitelist as the decoder's: a list that names other files opens none of them."""
    write_clip(tmp_path / "other.mp4", brightening(1), 8, tone(1), RATE)
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile other.mp4\n", encoding="utf-8")
    assert playable_as(str(path)) is None


@pytest.mark.parametrize("name", ["old", "deep", "large"])
def test_any_other_becomes_a_small_mp4_of_the_window(taken, name):
    root, out, answers = taken
    path = out / answers[name]["src"]
    assert answers[name]["offset"] == 0.0
    assert playable_as(str(path)) == "mp4"
    decoded = decode_clip(path, start=0.0, segments=2, segment_seconds=1.0, settings=MediaSettings(frames_per_second=2))
    assert decoded.status == "ok"
    assert np.sqrt((decoded.waveform**2).mean()) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)
    if name == "old":  # starts at 2 s of 4: brighter than half, and rising
        means = decoded.frames.reshape(len(decoded.frames), -1).mean(axis=1)
        assert np.all(np.diff(means) > 0)
        assert np.allclose(means, [20 + 210 * (2 + second) / 4 for second in (0.25, 0.75, 1.25, 1.75)], atol=12)
    assert not playable_as(str(root / "old.avi"))
    assert not playable_as(str(root / "deep.mp4"))


def test_what_cannot_be_played_says_why(taken):
    _, out, answers = taken
    assert list(answers["absent"]) == ["why"]
    assert "no file" in answers["absent"]["why"]
    assert set(answers["broken"]) == {"why"}
    assert len(answers["broken"]["why"]) > 5
    assert len(list((out / "media").iterdir())) == 4
