"""The blocks ``train`` and ``runs`` of params.yaml."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from pipeline.settings import LARGEST_SEED, Seed, Settings


class TrainSettings(Settings):
    """What all runs share; what belongs to a method (learning rate, epochs ...) stands in its ``recipe``."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of a training and an evaluation; null: torch's own choice (cores, or $OMP_NUM_THREADS). The last digits of"
        " sums depend on their number; small networks are fastest on one",
    )
    precision: Literal["32-true", "bf16-mixed", "64-true"] = Field("32-true", description="as Lightning Fabric names it")
    checkpoint_seconds: float = Field(60.0, ge=0, description="a checkpoint at the first epoch end after so many seconds; 0 = every epoch")
    compile: bool = Field(
        False,
        description="torch.compile the losses; needs a C++ compiler (CPU) or Triton (GPU), and minutes at the start; a method of several"
        " steps a batch (coleaf) runs as it is",
    )
    published_protocol: bool = Field(
        False,
        description="score test after every epoch as well, for the table's columns of the last and the best test epoch; chooses nothing",
    )
    nonfinite_patience: int = Field(3, ge=0, description="steps with a loss or a gradient that is not finite, skipped before the run stops")


class Run(Settings):
    """One run of the results table: a task, a method on a feature set, trained once per seed."""

    task: str
    method: str
    features: str
    seeds: list[Seed] = Field([0, 1, 2], min_length=1, max_length=1000, description="whole numbers, each once")
    overrides: dict[str, Any] = Field({}, description="settings that differ from the method's own block, nested as there")

    largest_integer: ClassVar[int] = LARGEST_SEED

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("a seed is named twice")
        return value
