"""Settings for reading clips: sampling, decoder, what counts as whole, and limits against hostile files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from pipeline.errors import PipelineError
from pipeline.settings import Settings


class MediaSettings(Settings):
    """The ``media`` block of params.yaml."""

    frames_per_second: float = Field(2.0, gt=0, le=240, description="frames sampled per second; a whole number per segment must result")
    frame_offset: float = Field(
        0.5, ge=0, lt=1, description="position of a sampled frame within its interval of 1/frames_per_second; 0: at its start"
    )
    frame_size: int | None = Field(
        None, ge=16, le=8192, description="short side in pixels to which larger frames are scaled down; null keeps the decoded size"
    )
    pictures_per_second: float | None = Field(
        None, gt=0, le=240, description="rate of clips that are folders of numbered pictures (0001.jpg, ...); films state their own"
    )
    decoder: Literal["auto", "decord", "pyav"] = Field("auto", description="auto: PyAV, then decord where PyAV decodes nothing")
    min_coverage: float = Field(
        0.9,
        ge=0,
        le=1,
        description="smallest decoded share of what the file states for the window; if picture or sound falls below it, the status is"
        " `truncated` (a file that is only short is `padded`)",
    )
    on_missing_audio: Literal["zeros", "drop"] = Field("zeros", description="a clip without sound: silence and a mask, or a bad clip")
    max_pixels: int = Field(4096 * 2304, ge=1, le=2**28, description="pixels of one frame above which a file is refused")
    max_seconds: float = Field(3 * 3600.0, gt=0, le=7 * 86_400.0, description="duration of a file in seconds above which it is refused")
    max_decoded_bytes: int = Field(
        4 * 2**30, ge=1, le=2**40, description="bytes of the frames and samples of one clip above which it is refused"
    )
    timeout_seconds: float = Field(60.0, gt=0, le=86_400.0, description="wall time of one clip in its child process")
    memory_mb: int = Field(4096, ge=64, le=2**24, description="address space a child process may take beyond what it starts with, in MiB")
    max_bad_fraction: float = Field(0.05, ge=0, le=1, description="share of bad clips above which the stage fails")
    keep: Literal["frames", "verdicts", "auto"] = Field(
        "auto",
        description="what `decode` stores of a clip. frames: pictures and sound. verdicts: no pictures; `extract` and `finetune` decode"
        " the clip again when they need them, in memory. auto: frames, as long as they take less than a tenth of what is free at the cache."
        " It moves no number",
    )
    workers: int = Field(2, ge=1, le=256, description="child processes that decode, one core each")

    _sounds: Path | None = PrivateAttr(None)  # `dataset.sounds`: a place, no setting of this block, and in no key

    @property
    def sounds(self) -> Path | None:
        """Folder of the clips' sound files; None where films have their own sound."""
        return self._sounds

    def with_sounds(self, sounds: Path | None) -> MediaSettings:
        """A copy that reads the clips' sounds from a folder."""
        copy = self.model_copy()
        copy._sounds = sounds
        return copy

    def sampling(self, working: set[str]) -> dict[str, Any]:
        """The settings but for those in ``working``, as plain JSON; the rate of pictures only where one is stated."""
        unstated = {"pictures_per_second"} if self.pictures_per_second is None else set[str]()
        return self.model_dump(mode="json", exclude=working | unstated)

    def frames_per_segment(self, segment_seconds: float) -> int:
        """Frames sampled in one segment of ``segment_seconds``.

        Raises:
            PipelineError: the number is not whole, or zero.
        """
        exact = self.frames_per_second * segment_seconds
        count = round(exact)
        if count < 1 or abs(exact - count) > 1e-6 * max(1.0, exact):
            raise PipelineError(
                f"media.frames_per_second: {self.frames_per_second:g} frames a second give {exact:g} frames in a segment of "
                f"{segment_seconds:g} s; choose a rate that gives a whole number, at least 1"
            )
        return count
