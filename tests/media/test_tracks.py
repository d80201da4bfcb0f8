"""Several tracks of one kind: the one marked as the default is read, as players do, and the manifest says which."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.cache import Cache, file_sha256
from pipeline.media.clip import decode_clip
from pipeline.media.decoding import decode_clips
from pipeline.media.job import Job
from pipeline.media.settings import MediaSettings
from tests.media.conftest import loudest, read_number, write_clip

NONE, DEFAULT = av.stream.Disposition(0), av.stream.Disposition.default


def read(path: Path, **changes):
    return decode_clip(path, start=0.0, segments=2, segment_seconds=1.0, settings=MediaSettings(**changes))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[Path]:
    """Two clips of 2 s: pictures from number 0 and silence; pictures from number 100 and a tone."""
    folder = tmp_path_factory.mktemp("tracks")
    silent = write_clip(folder / "silent.mp4", seconds=2.0, waveform=np.zeros_like)
    return [silent, write_clip(folder / "loud.mp4", seconds=2.0, first_number=100)]


def gather(target: Path, tracks: list[tuple[Path, str, av.stream.Disposition]]) -> Path:
    """A file with the named tracks, (source, "video" or "audio", disposition), in that order."""
    with av.open(str(target), "w") as writer:
        readers = [av.open(str(source)) for source, *_ in tracks]
        packets = []
        for reader, (_, kind, disposition) in zip(readers, tracks, strict=True):
            stream = reader.streams.best(kind)
            copy = writer.add_stream_from_template(stream)
            copy.disposition = disposition
            packets += [(float(packet.dts * packet.time_base), packet, copy) for packet in reader.demux(stream) if packet.dts is not None]
        for _, packet, copy in sorted(packets, key=lambda each: each[0]):
            packet.stream = copy
            writer.mux(packet)
        for reader in readers:
            reader.close()
    return target


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("marked", [0, 1, None], ids=["first", "second", "none"])
def test_the_default_track_is_read(sources, tmp_path, suffix, marked):
    silent, loud = sources
    marks = [DEFAULT if marked == number else NONE for number in range(2)]
    tracks = [(silent, "video", marks[0]), (loud, "video", marks[1]), (silent, "audio", marks[0]), (loud, "audio", marks[1])]
    path = gather(tmp_path / f"clip{suffix}", tracks)
    with av.open(str(path)) as container:
        flags = [bool(stream.disposition & DEFAULT) for stream in container.streams]
    if marked is not None:
        assert flags == [marked == 0, marked == 1] * 2
    clip = read(path)
    wanted = flags.index(True) if any(flags) else 0
    assert wanted == (marked or 0)
    assert clip.status == "ok"
    assert loudest(clip.waveform, clip.sample_rate) == (440 if wanted else 0)
    numbers = np.array([read_number(frame) for frame in clip.frames])
    assert np.abs(numbers - 100 * wanted - (2, 7, 12, 17)).max() <= 1  # Matroska begins with the sound alone
    assert clip.facts["video_track"] == clip.facts["audio_track"] == f"{wanted + 1} of 2"


def test_picture_and_sound_are_chosen_apart_and_the_manifest_says_so(sources, tmp_path):
    silent, loud = sources
    path = gather(
        tmp_path / "clip.mkv", [(silent, "audio", NONE), (loud, "video", DEFAULT), (silent, "video", NONE), (loud, "audio", DEFAULT)]
    )
    settings = MediaSettings(workers=1)
    job = Job("clip", str(path), file_sha256(path), 0.0, 2, 1.0, settings, Cache(tmp_path / "cache").root)
    [row] = decode_clips([job], [], settings).to_dict("records")
    assert (row["status"], row["video_track"], row["audio_track"]) == ("ok", "1 of 2", "2 of 2")


def test_the_first_of_several_marked_tracks_is_read(sources, tmp_path):
    silent, loud = sources
    path = gather(
        tmp_path / "clip.mkv", [(silent, "video", DEFAULT), (silent, "audio", NONE), (loud, "audio", DEFAULT), (silent, "audio", DEFAULT)]
    )
    clip = read(path)
    assert clip.facts["audio_track"] == "2 of 3"
    assert loudest(clip.waveform, clip.sample_rate) == 440


def test_one_track_of_each_kind(sound_clip):
    assert (read(sound_clip).facts["video_track"], read(sound_clip).facts["audio_track"]) == ("1 of 1", "1 of 1")


def test_a_marked_cover_is_no_track(sources, tmp_path):
    """Cover art does not count, even if marked as default, nor in "1 of N"."""
    silent, loud = sources
    cover = DEFAULT | av.stream.Disposition.attached_pic
    clip = read(gather(tmp_path / "clip.mkv", [(silent, "video", cover), (loud, "video", NONE), (loud, "audio", NONE)]))
    with av.open(str(tmp_path / "clip.mkv")) as container:
        stills = [bool(stream.disposition & av.stream.Disposition.attached_pic) for stream in container.streams.video]
    assert clip.facts["video_track"] == ("1 of 1" if stills[0] else "1 of 2")


def test_decord_is_refused_where_it_chooses_itself(sources, tmp_path):
    pytest.importorskip("decord", reason="decord has no wheels for this machine")
    silent, loud = sources
    path = gather(tmp_path / "clip.mp4", [(silent, "video", NONE), (loud, "video", DEFAULT), (loud, "audio", DEFAULT)])
    clip = read(path, decoder="decord")
    assert clip.status == "unreadable"
    assert clip.reason.startswith("decord")
    assert "tracks" in clip.reason
