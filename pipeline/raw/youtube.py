"""Fetch one video, or a span of it, with yt-dlp (an optional extra), and interpret its errors.

yt-dlp is called as a library: no shell, no command line, no configuration files. The address is made from a checked id.
"""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.datasets.files import MEDIA_SUFFIXES
from pipeline.errors import PipelineError
from pipeline.raw.wanted import Wanted
from pipeline.settings import Settings

Outcome = Literal["gone", "private", "geo-blocked", "failed", "blocked"]
MISSING = (
    "`python -m pipeline download` needs yt-dlp, which is not installed: pip install 'avel-pipeline[download]' (or pip install yt-dlp)"
)
NO_FFMPEG = "`python -m pipeline download` needs the program ffmpeg, with which yt-dlp cuts and joins; install it (apt install ffmpeg)"
# The first match counts. The words are YouTube's, as yt-dlp passes them on; "blocked" concerns this machine, not the video.
_MEANINGS: tuple[tuple[Outcome, str], ...] = (
    ("blocked", r"HTTP Error 429|Too Many Requests|not a bot|rate-limited|try again later|captcha"),
    ("blocked", r"failed to resolve|name resolution|network is unreachable|no route to host"),
    ("geo-blocked", r"in your country|from your location|geo.?restrict|blocked it in"),
    ("private", r"private video|video is private"),
    ("failed", r"confirm your age|age.restricted|members.only|members on|Premium members|requested format|live event|premieres"),
    ("gone", r"has been (?:removed|deleted|terminated)|no longer available|on copyright grounds|video (?:is )?unavailable"),
    ("gone", r"this video is not available|does not exist|uploader has closed|HTTP Error (?:404|410)"),
)
_DECORATION = re.compile(r"\x1b\[[0-9;]*m|^ERROR:\s*|^\[[\w:]+\]\s*[\w-]{11}:\s*")


class FetchError(Exception):
    """A failed download: its outcome and a reason of one line; ``blocked``: YouTube refuses this machine for now."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class YoutubeSettings(Settings):
    """Size and speed of downloads."""

    max_height: int = Field(360, ge=64, description="pixels; a video without a form this small is taken in its smallest")
    bytes_per_second: int = Field(2_000_000, ge=1000, le=10**11, description="rate of one transfer")
    sleep_requests: float = Field(1.0, ge=0, description="seconds between the requests for one video")


def meaning(message: str) -> tuple[Outcome, str]:
    """Interpret an error message of yt-dlp: its outcome, and one clean line of it."""
    lines = [line for line in message.splitlines() if line.strip()] or ["no message"]
    first = lines[0]
    while (shorter := _DECORATION.sub("", first).strip()) != first:
        first = shorter
    text = message.replace("\u2019", "'")
    outcome: Outcome = next((outcome for outcome, words in _MEANINGS if re.search(words, text, re.IGNORECASE)), "failed")
    return outcome, first[:300]


class YtDlp:
    """A fetcher that uses yt-dlp.

    Raises:
        PipelineError: yt-dlp or ffmpeg is missing.
    """

    def __init__(self, settings: YoutubeSettings) -> None:
        self.settings = settings
        try:
            self._package: Any = importlib.import_module("yt_dlp")
        except ImportError:
            raise PipelineError(MISSING) from None
        if shutil.which("ffmpeg") is None:
            raise PipelineError(NO_FFMPEG)

    def __call__(self, wanted: Wanted, directory: Path) -> Path:
        """Fetch into ``directory``, resuming what an earlier try left there, and return the finished file.

        Raises:
            FetchError: the download failed; gives outcome and reason.
        """
        try:
            with self._package.YoutubeDL(self.options(wanted, directory)) as downloader:
                downloader.download([f"https://www.youtube.com/watch?v={wanted.video}"])
        except self._package.utils.DownloadError as error:
            outcome, reason = meaning(str(error))
            cause = (getattr(error, "exc_info", None) or (None, None))[1]
            if isinstance(cause, self._package.utils.GeoRestrictedError):
                outcome = "geo-blocked"
            raise FetchError(outcome, reason) from error
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            raise FetchError("failed", f"yt-dlp: {type(error).__name__}: {error}") from error
        finished = [path for path in directory.iterdir() if path.stem == "clip" and path.suffix in MEDIA_SUFFIXES and path.stat().st_size]
        if len(finished) != 1:
            raise FetchError("failed", f"yt-dlp left {len(finished)} finished files instead of one")
        return finished[0]

    def options(self, wanted: Wanted, directory: Path) -> dict[str, Any]:
        """Parameters of yt-dlp for one clip."""
        height = self.settings.max_height
        options: dict[str, Any] = {
            "format": f"bestvideo[height<={height}]+bestaudio/best[height<={height}]/worstvideo+bestaudio/worst",
            "merge_output_format": "mp4/mkv",
            "outtmpl": {"default": "clip.%(ext)s"},
            "paths": {"home": str(directory.absolute())},
            "noplaylist": True,
            "ratelimit": self.settings.bytes_per_second,
            "sleep_interval_requests": self.settings.sleep_requests,
            "retries": 3,
            "socket_timeout": 30,
            "quiet": True,
            "no_warnings": True,
            "noprogress": True,
            "logger": _Silent(),
        }
        if wanted.start is not None and wanted.end is not None:
            options["download_ranges"] = self._package.utils.download_range_func(None, [(wanted.start, wanted.end)])
            options["force_keyframes_at_cuts"] = True  # the exact span, not from the key frame before it
        return options


class _Silent:
    """A logger that drops messages: they come as exceptions, and yt-dlp would print them as well."""

    def debug(self, message: str) -> None: ...

    def info(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...
