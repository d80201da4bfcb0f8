"""The block ``features`` of params.yaml: one entry per feature set."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from pipeline.settings import Settings

Precision = Literal["float32", "tf32", "bfloat16"]
NOT_FINETUNED = "none"  # also a folder of models/encoders: the dependency of feature sets that need no fine-tuning


class EncoderChoice(Settings):
    """An encoder's name, and its own settings (any further key), validated by its ``Config``."""

    model_config = ConfigDict(extra="allow", frozen=True)
    encoder: str = Field(description="a registered encoder")

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class FeatureSet(Settings):
    """A visual and an audio encoder, and how their output is stored."""

    visual: EncoderChoice = Field(description="encoder of the frames")
    audio: EncoderChoice = Field(description="encoder of the sound")
    finetuned: str = Field(
        NOT_FINETUNED, description="entry of `finetune` that visual.weights names, or none; required in params.yaml: a DVC dependency"
    )
    dtype: Literal["float16", "float32"] = Field("float16", description="of the stored features")
    precision: Precision = Field(
        "float32", description="of the networks' arithmetic; tf32: faster on a GPU, float32 on a CPU; bfloat16: under autocast"
    )
    batch_size: int = Field(256, ge=1, le=65_536, description="most frames or segments in one pass of an encoder; on a CPU at most 4")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
