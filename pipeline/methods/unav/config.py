"""Settings of the UnAV detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.methods.base import MethodConfig, Recipe
from pipeline.settings import merge


class UnavRecipe(Recipe):
    """AdamW 1e-4, five epochs of warm-up and forty along a cosine, batches of 16.

    Weights are a moving average. Released: the average has no warm-up (a run of 300 steps keeps three quarters of its first weights),
    the last, smaller batch is left out, and validation scores the weights of the step but keeps the average of that epoch.
    """

    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0, le=10)
    decayed: Literal["all", "matrices"] = "matrices"
    batch_size: int = Field(16, ge=1)
    epochs: int = Field(45, ge=1)
    warmup_epochs: float = Field(5.0, ge=0)
    schedule: Literal["milestones", "cosine"] = "cosine"
    ema: float | None = Field(0.999, gt=0, lt=1)
    clip_norm: float | None = Field(1.0, gt=0)


class UnavConfig(MethodConfig):
    """Defaults: ``variant: ours``; ``released_defaults`` lists where the released code differs."""

    released_defaults: ClassVar[Mapping[str, Any]] = {"dependency_width": 128, "recipe": {"ema_warmup": False}}

    variant: Literal["ours", "released"] = Field(
        "ours", description="released code, or masks behind every norm, an average with warm-up, a narrower dependency block"
    )
    motion: str | None = Field(None, description="name of a stream to join to the visual one (UnAV-100: flow behind rgb); null: none")
    width: int = Field(512, ge=4, multiple_of=2, description="d, of both streams")
    heads: int = Field(4, ge=1, description="of the attention between the streams")
    stem: int = Field(2, ge=0, description="blocks of each stream before the pyramid")
    levels: int = Field(
        6, ge=1, le=12, description="of the pyramid; level l learns events of up to 4 * 2^l steps, the last all longer ones"
    )
    dependency_width: int = Field(32, ge=0, description="features of a class and step in the dependency block (released 128); 0: no block")
    drop_path: float = Field(0.1, ge=0, lt=1, description="share of the clips that leave a residual branch out in training")
    crop: float = Field(0.9, gt=0, le=1, description="shortest share of a clip that a training step sees; 1: always all of it")
    threshold: float | None = Field(
        None, ge=0, le=1, description="a detection is an event from this score on; null: the one of the highest F1 on validation"
    )
    recipe: UnavRecipe = UnavRecipe()

    @model_validator(mode="before")
    @classmethod
    def _variant_defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return merge(cls.released_defaults, given) if given.get("variant") == "released" else given

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self

    @property
    def streams(self) -> tuple[str, ...]:
        return () if self.motion is None else (self.motion,)

    @property
    def calibrated_after(self) -> int | None:
        return 0 if self.threshold is None else None
