"""The blocks ``train`` and ``runs`` of params.yaml."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from pipeline.settings import LARGEST_SEED, Seed, Settings


class TrainSettings(Settings):
    """Settings that all runs share; learning rate, epochs and the like are in a method's ``recipe``."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of a training and an evaluation; null: torch's choice (cores, or $OMP_NUM_THREADS). The last digits of"
        " sums depend on their number; small networks are fastest on one",
    )
    precision: Literal["32-true", "tf32", "bf16-mixed", "64-true"] = Field(
        "32-true", description="as Lightning Fabric names it; tf32: 32-true, but a GPU rounds the factors of matrix products to 10 bits"
    )
    graphs: Literal["auto", "off"] = Field(
        "auto", description="auto: a GPU repeats each kind of step as one CUDA graph, where it can; off: operation by operation"
    )
    resident_gb: float | None = Field(
        None,
        ge=0,
        description="most room that features take in memory, on the GPU or the machine, in 10^9 bytes; null: three fifths of what is free"
        " at the start. A run whose features need more reads them from disk batch by batch, to the same weights; 0: always",
    )
    loggers: list[Literal["csv", "tensorboard", "wandb"]] = Field(
        [], description="also log every epoch there; tensorboard and wandb need the extra `loggers`. Changes no number and reruns nothing"
    )
    checkpoint_seconds: float = Field(60.0, ge=0, description="least time between two checkpoints; 0: one after every step")
    compile: bool = Field(
        False,
        description="torch.compile the losses; needs a C++ compiler (CPU) or Triton (GPU), and minutes at the start; no effect on a method"
        " with several steps a batch (coleaf)",
    )
    published_protocol: bool = Field(
        False,
        description="also score test after every epoch, for the table's columns of the last and the best test epoch; selects nothing",
    )
    nonfinite_patience: int = Field(3, ge=0, description="number of steps with a non-finite loss or gradient to skip before the run stops")

    @property
    def of_fabric(self) -> Literal["32-true", "bf16-mixed", "64-true"]:
        """The precision by Fabric's names, which leave the rounding of matrix products to torch."""
        return "32-true" if self.precision == "tf32" else self.precision


class Run(Settings):
    """One run of the results table: a task, a method on a feature set, trained once per seed."""

    task: str = Field(
        description="avel: localization; cml: cross-modality localization; avvp: parsing; avvp_av: audio-visual events alone; dave: dense"
    )
    method: str = Field(description="a registered method with a block in `methods`")
    features: str = Field(description="entry of `features`, `imports` or `labels`")
    seeds: list[Seed] = Field([0, 1, 2], min_length=1, max_length=1000, description="whole numbers, each once")
    overrides: dict[str, Any] = Field({}, description="settings that differ from the method's own block, nested as there")

    largest_integer: ClassVar[int] = LARGEST_SEED

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("a seed is listed twice")
        return value
