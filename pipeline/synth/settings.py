"""Settings of the demo world."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.settings import Seed, Settings

COUNTS = {"train_clips", "val_clips", "test_clips"}  # settings that shape no clip


class SynthSettings(Settings):
    """Kind, size, media format and difficulty of a demo world.

    The same settings give the same files, byte for byte. A larger count adds clips and leaves the
    earlier ones as they are.
    """

    kind: Literal["single", "dense"] = Field(
        "single",
        description="single: ten seconds with one event a clip, in the layouts of AVE and LLP | dense: 10 to 60 s with several events at"
        " any tenth of a second, in that of UnAV-100",
    )
    seed: Seed = Field(0, description="seed of everything random")
    train_clips: int = Field(240, ge=1, le=100_000, description="clips of the training split")
    val_clips: int = Field(80, ge=1, le=100_000, description="clips of the validation split")
    test_clips: int = Field(80, ge=1, le=100_000, description="clips of the test split")

    picture_size: int = Field(128, ge=64, le=256, multiple_of=16, description="height and width of the video in pixels")
    video_rate: Literal[4, 5, 8, 10, 16, 20, 25] = Field(8, description="frames per second")
    audio_rate: Literal[16000, 22050, 44100] = Field(16000, description="samples per second, mono")

    full_length_share: float = Field(0.25, ge=0, le=1, description="share of clips with an event that lasts the whole clip")
    single_share: float = Field(
        0.9, ge=0, le=1, description="how often, before and after the event, its sound or its picture continues without the other"
    )
    distractor_share: float = Field(0.75, ge=0, le=1, description="share of clips with sounds or pictures of other classes")
    event_level_db: tuple[float, float] = Field(
        (10.0, 22.0), description="range, within 6 to 40 dB, of a sound's level over the noise (loudest 50 ms of its weakest second)"
    )
    clutter: int = Field(5, ge=0, le=40, description="shapes in the background that belong to no class")
    grain: float = Field(6.0, ge=0, le=60, description="strongest film grain, standard deviation in grey levels of 255")

    @property
    def shaping(self) -> str:
        """All settings that shape a clip, as JSON."""
        return self.model_dump_json(exclude=COUNTS | ({"kind"} if self.kind == "single" else set()))

    @model_validator(mode="after")
    def _levels_in_order(self) -> SynthSettings:
        low, high = self.event_level_db
        if not 6 <= low <= high <= 40:
            raise ValueError(f"event_level_db is {[low, high]}; give [low, high] with 6 <= low <= high <= 40 (dB)")
        return self
