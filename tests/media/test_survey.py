import av
import pytest

from pipeline.media.settings import MediaSettings
from pipeline.media.survey import survey


def test_what_a_whole_file_holds(sound_clip):
    found = survey(sound_clip, MediaSettings())
    assert (found.status, found.reason) == ("", "")
    assert found.seconds == pytest.approx(4.0, abs=0.1)
    assert found.facts["audio_codec"] == "aac"


def test_a_live_recording_states_no_length_and_is_measured(make_clip, tmp_path):

    path = tmp_path / "live.mkv"
    with av.open(str(make_clip(seconds=3.0, name="clip.mkv"))) as source, av.open(str(path), "w", options={"live": "1"}) as live:
        streams = {stream.index: live.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                live.mux(packet)
    with av.open(str(path)) as live:
        assert not live.duration
    assert survey(path, MediaSettings()).seconds == pytest.approx(3.0, abs=0.11)


@pytest.mark.parametrize(
    ("parts", "status"), [({"audio_codec": None}, "no_audio"), ({"codec": None, "name": "voice.m4a"}, "no_video")], ids=["mute", "voice"]
)
@pytest.mark.fault(4)
def test_a_missing_stream_is_a_status(make_clip, parts, status):
    assert survey(make_clip(**parts), MediaSettings()).status == status


def test_a_file_without_video_has_a_status(tmp_path):
    (tmp_path / "page.mp4").write_text("<html>", encoding="utf-8")
    found = survey(tmp_path / "page.mp4", MediaSettings())
    assert (found.status, found.seconds) == ("unreadable", 0.0)
    assert found.reason
    assert survey(tmp_path / "absent.mp4", MediaSettings()).status == "missing"


@pytest.mark.fault(9)
def test_a_file_beyond_the_limits_is_refused(sound_clip):
    assert survey(sound_clip, MediaSettings(max_seconds=1)).status == "refused"
