"""The block ``finetune`` of params.yaml: one entry per fine-tuned encoder."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.features.settings import EncoderChoice
from pipeline.settings import Seed, Settings


class FinetuneSettings(Settings):
    """How encoders are fine-tuned; the defaults are those of CACE-Net's released code (``variant: released``).

    Where the released code differs from the paper (Sec. 3.4, Eq. 9), ``variant`` decides; see :mod:`pipeline.contrastive.model`.
    """

    visual: EncoderChoice = Field(description="encoder of the frames")
    audio: EncoderChoice = Field(description="encoder of the sound; frozen, its features are computed once")
    train: Literal["visual", "audio", "both"] = Field(
        "visual", description="which encoder is fine-tuned, the other stays frozen; weights: finetuned/NAME, and finetuned/NAME/audio"
    )
    variant: Literal["released", "paper"] = Field("released", description="paper: compares the features directly, without projections")
    width: int = Field(128, ge=1, le=65_536, description="of the space both modalities are projected to; `paper` projects nothing")
    standardize_audio: bool = Field(False, description="scale each audio feature to mean 0, deviation 1 over the training clips first")
    temperature: float = Field(0.2, ge=1e-3, le=1000, description="tau; the released value, the paper gives none")
    learnable_temperature: bool = Field(False, description="learn tau, starting there, never below 0.01")

    seed: Seed = Field(0, description="of all random numbers")
    segments: int | None = Field(None, ge=1, description="segments of a clip in one step, drawn at random; null: all of them")
    frames_per_segment: int = Field(1, ge=1, description="random frames of each segment, at most as many as were decoded")
    draw: Literal["once", "every_epoch"] = Field("once", description="released: frames are drawn once for the whole training")

    train_last: int | None = Field(None, ge=0, description="train only the last n blocks of the encoders; 0: only the heads; null: all")
    batch_norm: Literal["train", "frozen"] = Field(
        "train", description="train: statistics of the batch (per process), as released; frozen: the statistics stored with the weights"
    )
    maps_gb: float = Field(
        4.0, ge=0, description="largest file, in 10^9 bytes, for the frozen blocks' maps; without it, frames are read; 0: no file"
    )
    gradient_cache: int | None = Field(None, ge=1, description="clips in memory at a time; the step is still that of the whole batch")

    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="of the encoder and the projections")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="of the encoder")
    head_learning_rate: float | None = Field(None, gt=0, le=10, description="of projections and temperature; null: the encoder's")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(1e-4, ge=0, le=10, description="of the optimizer")
    clip_norm: float | None = Field(None, gt=0, description="global gradient norm limit")
    schedule: Literal["step", "cosine"] = Field("step", description="fall of the learning rate: at `milestones`, or along a cosine")
    milestones: tuple[int, ...] = Field((15, 30), description="epochs of `step` at which the learning rate falls")
    decay: float = Field(0.1, gt=0, le=1, description="factor at each milestone")
    warmup_epochs: float = Field(0.0, ge=0, description="number of epochs over which the learning rate rises linearly")
    head_epochs: int = Field(
        0, ge=0, description="first train only the heads, on the untouched encoder's features, for at most this many epochs; keep the best"
    )
    epochs: int = Field(50, ge=0, description="of fine-tuning")
    batch_size: int = Field(128, ge=1, description="clips in one step, over all processes together")
    patience: int | None = Field(
        None, ge=1, description="stop after this many validations without better retrieval, the heads' training too; null: never"
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations; the last epoch is always validated")

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    devices: int = Field(1, ge=1, le=1024, description="processes, one to a GPU")
    threads: int | None = Field(
        None, ge=1, le=1024, description="on the CPU; the weights' last bits depend on their number; null: torch's choice"
    )
    precision: Literal["32-true", "tf32", "bf16-mixed"] = Field(
        "32-true", description="tf32: a GPU rounds the factors of its products to 10 bits; the others as Lightning Fabric names them. The"
        " loss is float32 in all"
    )  # fmt: skip
    checkpoint_seconds: float = Field(60.0, ge=0, description="least time between two checkpoints; 0: one after every step")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.gradient_cache is not None and self.batch_norm == "train" and self.train_last != 0:
            raise ValueError("gradient_cache needs batch_norm: frozen, because a part's statistics differ from the batch's")
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of devices {self.devices}")
        heads_learn = self.variant == "released" or self.learnable_temperature
        if not heads_learn and (self.head_epochs or self.train_last == 0):
            raise ValueError("variant paper has no heads to train: drop head_epochs, set train_last to null or at least 1")
        return self

    @property
    def sides(self) -> tuple[str, ...]:
        """The modalities whose encoders are trained."""
        return ("visual", "audio") if self.train == "both" else (self.train,)

    @property
    def of_fabric(self) -> Literal["32-true", "bf16-mixed"]:
        """The precision by Fabric's names, which leave the rounding of matrix products to torch."""
        return "32-true" if self.precision == "tf32" else self.precision

    @property
    def symmetric(self) -> bool:
        """Whether the loss has both directions, as released; the paper's Eq. 9 has visual-to-audio only."""
        return self.variant == "released"
