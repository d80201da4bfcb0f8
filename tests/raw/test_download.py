"""yt-dlp is imitated: its classes, and YouTube's words as yt-dlp passes them on (release 2026.10.26 was read; there is no network here)."""

import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.raw.download import DownloadSettings, download
from pipeline.raw.wanted import Wanted
from pipeline.raw.youtube import FetchError, YoutubeSettings, YtDlp, meaning
from tests.wording import says

COOKIES = "Use --cookies-from-browser or --cookies for the authentication."
SAID = {  # YouTube's answers, as yt-dlp raises them
    "private": f"ERROR: [youtube] {{}}: Private video. Sign in if you've been granted access to this video. {COOKIES}",
    "removed": "ERROR: [youtube] {}: Video unavailable. This video has been removed by the uploader",
    "terminated": "ERROR: [youtube] {}: Video unavailable. This video is no longer available because the YouTube account associated with "
    "this video has been terminated.",
    "policy": "ERROR: [youtube] {}: This video has been removed for violating YouTube's policy on hate speech.",
    "unavailable": "ERROR: [youtube] {}: Video unavailable",
    "not_available": "\x1b[0;31mERROR:\x1b[0m [youtube] {}: Video unavailable. This video is not available",
    "copyright": "ERROR: [youtube] {}: Video unavailable. This video contains content from SME, who has blocked it on copyright grounds",
    "geo": "ERROR: [youtube] {}: The uploader has not made this video available in your country\nThis video is available in Canada.\n"
    "You might want to use a VPN or a proxy server (with --proxy) to workaround.",
    "geo_copyright": "ERROR: [youtube] {}: Video unavailable. This video contains content from SME, who has blocked it in your country on "
    "copyright grounds",
    "age": f"ERROR: [youtube] {{}}: Sign in to confirm your age. This video may be inappropriate for some users. {COOKIES}",
    "members": "ERROR: [youtube] {}: Join this channel to get access to members-only content like this video, and other exclusive perks.",
    "format": "ERROR: [youtube] {}: Requested format is not available. Use --list-formats for a list of available formats",
    "bot": f"ERROR: [youtube] {{}}: Sign in to confirm you\u2019re not a bot. {COOKIES}",
    "busy": "ERROR: [youtube] {}: Video unavailable. This content isn't available, try again later. The current session has been "
    "rate-limited by YouTube for up to an hour.",
    "too_many": "ERROR: unable to download video data: HTTP Error 429: Too Many Requests",
    "offline": "ERROR: [youtube] {}: Unable to download API page: HTTPSConnection(host='www.youtube.com', port=443): Failed to resolve "
    "'www.youtube.com' ([Errno -2] Name or service not known)",
}


class YoutubeDLError(Exception):
    pass


class DownloadError(YoutubeDLError):
    def __init__(self, msg, exc_info=None):
        super().__init__(msg)
        self.exc_info = exc_info


class GeoRestrictedError(YoutubeDLError):
    pass


class Ranges:
    """yt-dlp's download_range_func."""

    def __init__(self, chapters, ranges, from_info=False):
        self.chapters, self.ranges = chapters, ranges


@pytest.fixture
def yt_dlp(monkeypatch):
    """The module, installed; ``answers`` maps a video to a key of SAID (or an exception), ``calls`` has (options, addresses)."""
    module = types.ModuleType("yt_dlp")
    module.utils = types.SimpleNamespace(DownloadError=DownloadError, GeoRestrictedError=GeoRestrictedError, download_range_func=Ranges)
    module.answers, module.calls = {}, []

    class YoutubeDL:
        def __init__(self, options):
            self.options = options

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def download(self, addresses):
            module.calls.append((self.options, addresses))
            video = addresses[0].partition("watch?v=")[2]
            answer = module.answers.get(video, b"clip of " + video.encode())
            if isinstance(answer, BaseException):
                raise answer
            directory = Path(self.options["paths"]["home"])
            if isinstance(answer, str):
                (directory / "clip.mp4.part").write_bytes(b"half")
                raise DownloadError(SAID[answer].format(video))
            (directory / "clip.mp4").write_bytes(answer)

    module.YoutubeDL = YoutubeDL
    monkeypatch.setitem(sys.modules, "yt_dlp", module)
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    return module


QUICK = DownloadSettings(sleep=0)


def videos(count):
    return [Wanted(f"-video{n:05d}_30_40", f"-video{n:05d}", 30.0, 40.0) for n in range(count)]


def run(wanted, into, settings=QUICK, fetcher=None):
    """(summary, table by clip, pauses)."""
    pauses = []
    summary = download(wanted, into, settings, lambda: fetcher or YtDlp(YoutubeSettings()), sleep=pauses.append)
    return summary, pd.read_parquet(into / "downloads.parquet").set_index("clip"), pauses


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        *((key, "gone") for key in ("removed", "terminated", "policy", "unavailable", "not_available", "copyright")),
        *(("private", "private"), ("geo", "geo-blocked"), ("geo_copyright", "geo-blocked")),
        *((key, "failed") for key in ("age", "members", "format")),
        *((key, "blocked") for key in ("bot", "busy", "too_many", "offline")),
    ],
)
def test_every_answer_of_youtube_has_its_meaning(said, outcome):
    found, reason = meaning(SAID[said].format("-video00001"))
    assert found == outcome
    assert reason in SAID[said]
    assert not reason.startswith(("ERROR", "[", "\x1b"))


def test_an_unknown_answer_is_a_failure_with_its_text():
    assert meaning("ERROR: [generic] Something new\nmore") == ("failed", "[generic] Something new")
    assert meaning("") == ("failed", "no message")


@pytest.mark.fault(11)
def test_yt_dlp_is_asked_for_the_span_in_a_directory_without_a_shell(yt_dlp, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    (wanted,) = videos(1)
    settings = YoutubeSettings(max_height=240, bytes_per_second=12345, sleep_requests=2)
    path = YtDlp(settings)(wanted, tmp_path)
    ((options, addresses),) = yt_dlp.calls
    assert path == tmp_path / "clip.mp4"
    assert addresses == ["https://www.youtube.com/watch?v=-video00000"]
    assert options["paths"] == {"home": str(tmp_path)}
    assert options["outtmpl"] == {"default": "clip.%(ext)s"}
    assert options["download_ranges"].ranges == [(30.0, 40.0)]
    assert options["force_keyframes_at_cuts"] is True
    assert options["noplaylist"] is True
    assert (options["ratelimit"], options["sleep_interval_requests"]) == (12345, 2)
    assert options["format"].startswith("bestvideo[height<=240]+bestaudio/")
    assert not {"exec", "postprocessors", "cookiefile", "cookiesfrombrowser", "external_downloader"} & set(options)
    YtDlp(settings)(Wanted("-video00000", "-video00000"), tmp_path)
    assert not {"download_ranges", "force_keyframes_at_cuts"} & set(yt_dlp.calls[1][0])


def test_what_the_real_yt_dlp_takes(tmp_path):
    """Its constructor checks the format, the template and the paths; nothing is asked of the network."""
    package = pytest.importorskip("yt_dlp")
    fetcher = object.__new__(YtDlp)
    fetcher.settings, fetcher._package = YoutubeSettings(), package
    options = fetcher.options(videos(1)[0], tmp_path)
    with package.YoutubeDL(options) as downloader:
        assert downloader.prepare_filename({"id": "-video00000", "ext": "mp4", "title": "t"}) == str(tmp_path / "clip.mp4")
        assert [(span["start_time"], span["end_time"]) for span in options["download_ranges"]({"id": "x"}, downloader)] == [(30.0, 40.0)]
        downloader.build_format_selector(options["format"])


def test_clips_come_by_their_annotated_ids_with_a_status_for_each(yt_dlp, tmp_path):
    wanted = videos(6)
    geo = DownloadError("ERROR: [youtube] -video00003: not here", (None, GeoRestrictedError("x"), None))
    yt_dlp.answers = {"-video00001": "private", "-video00002": "removed", "-video00003": geo, "-video00004": "age"}
    summary, table, pauses = run(wanted, tmp_path / "clips", DownloadSettings(sleep=3))
    assert list(table["status"]) == ["ok", "private", "gone", "geo-blocked", "failed", "ok"]
    assert table["reason"].iloc[2] == "Video unavailable. This video has been removed by the uploader"
    assert sorted(path.name for path in (tmp_path / "clips").glob("*.mp4")) == ["-video00000_30_40.mp4", "-video00005_30_40.mp4"]
    assert (tmp_path / "clips" / table["file"].iloc[5]).read_bytes() == b"clip of -video00005"
    assert table["bytes"].iloc[0] == 19
    assert summary.startswith("6 clips: 2 ok, 1 gone, 1 private, 1 geo-blocked, 1 failed; ")
    assert says(summary, "1 times", "Sign in to confirm your age")
    assert len(pauses) == 5
    assert all(3 <= pause <= 6 for pause in pauses)


def test_a_second_run_asks_only_for_what_failed_or_vanished_and_a_third_for_nothing(yt_dlp, tmp_path):
    wanted, into = videos(4), tmp_path / "clips"
    yt_dlp.answers = {"-video00001": "private", "-video00002": "format"}
    run(wanted, into)
    (into / "-video00003_30_40.mp4").unlink()
    yt_dlp.calls.clear()
    yt_dlp.answers.pop("-video00002")
    _, table, _ = run(wanted, into)
    assert [addresses[0][-11:] for _, addresses in yt_dlp.calls] == ["-video00002", "-video00003"]
    assert list(table["status"]) == ["ok", "private", "ok", "ok"]
    before = (into / "downloads.parquet").read_bytes()
    run(wanted, into, fetcher=lambda *_: pytest.fail("nothing was to be fetched"))
    assert (into / "downloads.parquet").read_bytes() == before  # DVC sees no change
    yt_dlp.calls.clear()
    run(wanted, into, DownloadSettings(sleep=0, retry=True))
    assert [addresses[0][-11:] for _, addresses in yt_dlp.calls] == ["-video00001"]


def test_an_existing_file_with_a_common_name_is_not_fetched_and_two_files_are_reported(yt_dlp, tmp_path):
    into = tmp_path / "clips"
    (into / "train").mkdir(parents=True)
    (into / "train" / "-video00000_30000_40000.mkv").write_bytes(b"mine")
    (into / "-video00001_30_40.mkv").write_bytes(b"one")
    (into / "-video00001_30_40.mp4").write_bytes(b"another")
    _, table, _ = run(videos(2), into)
    assert yt_dlp.calls == []
    assert list(table["status"]) == ["ok", "failed"]
    assert table["file"].iloc[0] == "train/-video00000_30000_40000.mkv"
    assert says(table["reason"].iloc[1], "-video00001_30_40.mkv", "-video00001_30_40.mp4")


def test_partial_files_never_count_and_are_there_for_the_next_try(yt_dlp, tmp_path):
    (wanted,), into = videos(1), tmp_path / "clips"
    yt_dlp.answers = {"-video00000": "format"}
    run([wanted], into)
    left = into / ".downloading" / wanted.clip / "clip.mp4.part"
    assert left.read_bytes() == b"half"
    assert list(into.glob("*.mp4")) == []
    yt_dlp.answers = {}
    _, table, _ = run([wanted], into)
    assert list(table["status"]) == ["ok"]
    assert not (into / ".downloading").exists()
    yt_dlp.answers = {"-video00001": b""}
    _, table, _ = run(videos(2), into)
    assert list(table["status"]) == ["ok", "failed"]
    assert "0 finished files" in table["reason"].iloc[1]


def test_a_killed_run_has_recorded_every_finished_video(tmp_path):
    def fetch(wanted, directory):
        if wanted.video == "-video00002":
            raise KeyboardInterrupt
        (directory / "clip.webm").write_bytes(b"x")
        return directory / "clip.webm"

    with pytest.raises(KeyboardInterrupt):
        run(videos(4), tmp_path, fetcher=fetch)
    assert list(pd.read_parquet(tmp_path / "downloads.parquet")["status"]) == ["ok", "ok", "pending", "pending"]


@pytest.mark.parametrize("said", ["bot", "busy", "too_many", "offline"])
def test_a_run_ends_when_youtube_refuses_the_machine_and_the_rest_stays_pending(yt_dlp, tmp_path, said):
    wanted = videos(9)
    yt_dlp.answers = {each.video: said for each in wanted[1:]}
    summary, table, _ = run(wanted, tmp_path)
    assert list(table["status"]) == ["ok", *["failed"] * 3, *["pending"] * 5]
    assert "YouTube " in summary
    assert len(yt_dlp.calls) == 4


def test_the_limit_counts_what_is_asked_for(yt_dlp, tmp_path):
    _, table, _ = run(videos(5), tmp_path, DownloadSettings(sleep=0, limit=2))
    assert list(table["status"]) == ["ok"] * 2 + ["pending"] * 3
    _, table, _ = run(videos(5), tmp_path, DownloadSettings(sleep=0, limit=2))
    assert list(table["status"]) == ["ok"] * 4 + ["pending"]


def test_a_bug_in_yt_dlp_fails_one_video_and_a_full_disk_ends_the_run(yt_dlp, tmp_path):
    yt_dlp.answers = {"-video00000": KeyError("playerResponse"), "-video00001": OSError(28, "No space left on device")}
    with pytest.raises(FetchError, match="KeyError"):
        YtDlp(YoutubeSettings())(videos(1)[0], tmp_path)

    def full(wanted, directory):
        raise OSError(28, "No space left on device")

    with pytest.raises(PipelineError, match="disk is full"):
        run(videos(1), tmp_path / "clips", fetcher=full)


def test_a_clip_without_a_known_span_is_never_asked_for(yt_dlp, tmp_path):
    _, table, _ = run([Wanted("-video00000", "-video00000", problem="its span is in none of eval.csv")], tmp_path)
    assert (table["status"].iloc[0], table["reason"].iloc[0]) == ("failed", "its span is in none of eval.csv")
    assert yt_dlp.calls == []


def test_a_damaged_table_forgets_only_the_refusals(yt_dlp, tmp_path):
    yt_dlp.answers = {"-video00001": "private"}
    run(videos(2), tmp_path)
    (tmp_path / "downloads.parquet").write_bytes(b"PAR1 torn")
    yt_dlp.calls.clear()
    _, table, _ = run(videos(2), tmp_path)
    assert list(table["status"]) == ["ok", "private"]
    assert len(yt_dlp.calls) == 1


def test_nothing_of_the_users_own_is_overwritten(yt_dlp, tmp_path):
    table = pd.DataFrame({"clip": ["x"], "mood": ["good"]})
    table.to_parquet(tmp_path / "downloads.parquet")
    before = (tmp_path / "downloads.parquet").read_bytes()
    with pytest.raises(PipelineError, match=r"downloads\.parquet"):
        run(videos(1), tmp_path)
    assert (tmp_path / "downloads.parquet").read_bytes() == before
    assert yt_dlp.calls == []


def test_a_missing_yt_dlp_or_ffmpeg_is_one_sentence_and_only_when_something_is_to_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(PipelineError, match=r"pip install 'avel-pipeline\[download\]'"):
        run(videos(1), tmp_path)
    assert not (tmp_path / "downloads.parquet").exists()
    (tmp_path / "-video00000_30_40.mp4").write_bytes(b"x")
    assert run(videos(1), tmp_path)[0].startswith("1 clips: 1 ok")
    monkeypatch.setitem(sys.modules, "yt_dlp", types.ModuleType("yt_dlp"))
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(PipelineError, match="ffmpeg"):
        run(videos(2), tmp_path)
