"""The block ``imports`` of params.yaml: one entry per set of published features."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.features.store import MODALITIES
from pipeline.settings import Name, Settings

ID = "{id}"


class Source(Settings):
    """Where one stream (visual, audio ...) is published."""

    file: str = Field(description="in the directory: .h5 or .npy array with entry i for annotation row i, or one .npy per clip: x/{id}.npy")
    shape: tuple[int, ...] = Field(min_length=1, description="of one segment; the file may join its first length with T")
    time: Literal["segments", "rows", "average", "clap_map"] = Field(
        "segments",
        description="segments: the file holds T | rows: any number, taken as they are, zeros after them; the shortest stream is the clip's"
        " length | average: any number, averaged to the clip's segments | clap_map: VALOR's (64, D)",
    )
    training_only: bool = Field(False, description="labels to learn from: only training clips need a file; the others' values are -1")
    negatives: str | None = Field(None, description="file with the clips of dataset.negatives, in the same layout (AVE: *_noisy.h5)")

    @field_validator("file", "negatives")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        path = PurePosixPath(value or "x.npy")
        if path.is_absolute() or ".." in path.parts or path.suffix not in (".h5", ".hdf5", ".npy"):
            raise ValueError("must be a path below the directory that ends in .h5 or .npy")
        return value

    @field_validator("shape")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value, default=1) < 1:
            raise ValueError("lengths must be at least 1")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.time != "segments" and not self.per_clip:
            raise ValueError(f"time: {self.time} needs one file per clip, with {ID} in its name")
        if self.time != "segments" and len(self.shape) != 1:
            raise ValueError(f"time: {self.time} gives one vector a segment; shape is [width]")
        if self.per_clip and (self.negatives or not self.file.endswith(".npy")):
            raise ValueError("files of one clip each must be .npy, and cannot have negatives, which have no ids")
        if self.training_only and not self.per_clip:
            raise ValueError(f"training_only needs one file per clip, with {ID} in its name")
        return self

    @property
    def per_clip(self) -> bool:
        return ID in self.file


class ImportSet(Settings):
    """Published features of one data set, imported as a feature store named like this entry."""

    directory: Path = Field(description="of the published files; the stage depends on all of it")
    visual: Source = Field(description="stream of the pictures")
    audio: Source = Field(description="stream of the sound")
    others: dict[Name, Source] = Field({}, description="further streams by a name of your choice: motion, visual_labels ...")
    segments: int | None = Field(None, ge=1, le=3600, description="T of this store; null: dataset.segments")
    segment_seconds: float | None = Field(
        None, gt=0, le=60, description="length of a segment, from one row to the next; null: dataset.segment_seconds"
    )
    first_seconds: float | None = Field(
        None, ge=0, le=60, description="time: rows: the moment that row 0 stands for, the middle of its window; null: half a segment"
    )
    dtype: Literal["float16", "float32"] = Field("float32", description="of the stored features")
    max_missing_fraction: float = Field(0.05, ge=0, le=1, description="largest share of clips without a file that is accepted")

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if taken := sorted(set(self.others) & set(MODALITIES)):
            raise ValueError(f"others: {', '.join(taken)} is reserved; choose another name")
        if self.visual.training_only or self.audio.training_only:
            raise ValueError("every clip needs visual and audio features; training_only is for streams under others")
        sources = self.sources.values()
        if len({source.per_clip for source in sources}) > 1:
            raise ValueError(f"either all streams have one file per clip ({ID} in its name) or none; make two entries")
        if self.first_seconds is not None and not self.by_rows:
            raise ValueError("first_seconds: only rows that are taken as they are (time: rows) have a time of their own; leave it out")
        if len({source.negatives is None for source in sources}) > 1:
            raise ValueError("negatives: give a file for every stream, or for none")
        return self

    @property
    def sources(self) -> dict[str, Source]:
        return {"visual": self.visual, "audio": self.audio, **self.others}

    @property
    def per_clip(self) -> bool:
        return self.visual.per_clip

    @property
    def by_rows(self) -> bool:
        """Whether the files' own lengths say how long a clip is."""
        return any(source.time == "rows" for source in self.sources.values())
