"""Settings of CoLeaF and how they combine with its Anchor's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from pipeline.methods.base import METHODS, MethodConfig, Recipe
from pipeline.methods.coleaf.class_tokens import TokenHead
from pipeline.methods.shared.anchor import AnchorMethod
from pipeline.methods.shared.parsing import ParsingConfig
from pipeline.registry import suggest
from pipeline.settings import merge

RELEASED_GATE = 0.52  # clip threshold with CMPAE as Anchor; the segment threshold is CMPAE's own, 0.25
OVER_THE_ANCHOR = ("audio_weight", "visual_weight", "clip_weight", "segment_threshold", "clip_threshold")  # null: the Anchor's own


class ColeafRecipe(Recipe):
    """Adam 5e-4, divided by 4 every six epochs, 10 epochs (paper: 15), batches of 128.

    Validation picks the epoch with the best mean of the ten new scores.
    """

    learning_rate: float = Field(5e-4, gt=0)
    milestones: tuple[int, ...] = (6, 12)
    decay: float = Field(0.25, gt=0, le=1)
    batch_size: int = Field(128, ge=1)
    epochs: int = Field(10, ge=1)
    selection: str | None = "mean_of_ten_new"


class ColeafConfig(ParsingConfig):
    """Defaults: ``variant: released``; ``paper_defaults`` lists where the paper differs."""

    paper_defaults: ClassVar[Mapping[str, Any]] = {
        "token_head": "linear", "audio_weight": None, "visual_weight": None, "clip_weight": None, "contrast_weight_audio": 1.0,
        "self_modality_weight": 1.0, "co_occurrence_weight": 1.0, "recipe": {"epochs": 15},
    }  # fmt: skip

    variant: Literal["released", "paper"] = Field("released", description="released code or paper; `paper_defaults` in the file")
    anchor: str = Field("cmpae", description="parsing method to train and keep")
    anchor_settings: dict[str, Any] = Field({}, description="the Anchor's settings, except those set here, such as recipe")
    token_head: TokenHead = Field("mean", description="head of the class tokens: mean (inert) | linear | none: no class tokens")
    feedforward: int = Field(512, ge=1, description="of the References; so are the next two")
    dropout: float = Field(0.1, ge=0, lt=1, description="of the References")
    head_dropout: float = Field(0.5, ge=0, lt=1, description="before the References' classifiers")
    contrast: Literal["event_aware", "plain", "pseudo_labels", "none"] = Field(
        "event_aware",
        description="Eq. 8 | Eq. 8 with weight 1 in every clip | the References' decisions as labels | none",
    )
    self_modality: bool = Field(True, description="Eq. 12")
    co_occurrence: bool = Field(True, description="Eq. 13")
    temperature: float = Field(0.2, ge=1e-4, le=1000, description="of the contrast")
    event_threshold: float = Field(0.5, ge=0, le=1, description="a Reference finds a class from this clip probability on, Eqs. 9-11")
    pseudo_threshold_audio: float = Field(0.5, ge=0, le=1, description="the Anchor teaches a class from this probability on, Eq. 12")
    pseudo_threshold_visual: float = Field(0.6, ge=0, le=1, description="likewise for the visual modality")
    audio_weight: float | None = Field(2.0, ge=0, description="of the Anchor's audio loss; null: the Anchor's own")
    visual_weight: float | None = Field(1.0, ge=0, description="of the Anchor's visual loss; null: the Anchor's own")
    clip_weight: float | None = Field(2.0, ge=0, description="of the Anchor's clip loss; null: the Anchor's own")
    token_weight: float = Field(1.0, ge=0, description="of the class tokens' loss; the released variant multiplies it by its schedule")
    self_modality_weight: float = Field(0.5, ge=0, description="of Eq. 12 in the total")
    contrast_weight_audio: float = Field(0.009, ge=0, description="of the audio Reference's contrast")
    contrast_weight_visual: float = Field(1.0, ge=0, description="of the visual Reference's contrast")
    co_occurrence_weight: float = Field(1e-4, ge=0, description="of Eq. 13 in the total")
    segment_threshold: float | None = Field(None, ge=0, le=1, description="probability that makes a class active; null: the Anchor's own")
    clip_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="and only if its clip probability in the same modality reaches this; null: the Anchor's own (released CMPAE: 0.52)",
    )
    recipe: ColeafRecipe = ColeafRecipe()

    @model_validator(mode="before")
    @classmethod
    def _variant_defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        if given.get("variant") == "paper":
            return merge(cls.paper_defaults, given)
        return merge({"clip_threshold": RELEASED_GATE}, given) if given.get("anchor", "cmpae") == "cmpae" else given

    @model_validator(mode="after")
    def _anchor_exists(self) -> ColeafConfig:
        known = [name for name in METHODS.names() if issubclass(METHODS.get(name), AnchorMethod)]
        if self.anchor not in known:
            raise ValueError(f"anchor: {self.anchor!r} cannot be an Anchor; choose from: {', '.join(known)}")
        own = {*ParsingConfig.model_fields, *(name for name in OVER_THE_ANCHOR if getattr(self, name) is not None)}
        if idle := sorted(own & self.anchor_settings.keys()):  # they would have no effect
            raise ValueError(f"anchor_settings: {', '.join(idle)}: set this in coleaf's own settings")
        if self.anchor_settings.get("refine") and "refine" in METHODS.get(self.anchor).Config.model_fields:
            raise ValueError("anchor_settings: refine: CoLeaF trains its Anchor on all labels; set it to false")
        try:
            _ = self.anchor_config
        except ValidationError as error:  # unchanged, its locations would read as settings of this method
            its = METHODS.get(self.anchor).Config.model_fields.keys() - ParsingConfig.model_fields
            raise ValueError("; ".join(_of_anchor(finding, its) for finding in error.errors())) from None
        return self

    @property
    def anchor_config(self) -> ParsingConfig:
        """Settings of the Anchor."""
        shared = self.model_dump(include={"motion", "pseudo_labels", "clip_modality_losses", "segment_weight", "recipe"})
        if self.thresholds == "tuned":  # the shares of two passes are the Anchor's
            shared["thresholds"] = "tuned"
        config = METHODS.get(self.anchor).Config(**{**self.anchor_settings, **shared})
        assert isinstance(config, ParsingConfig)
        return config

    @property
    def files(self) -> dict[str, Path]:
        """Files named in the settings, the Anchor's included."""
        return {**super().files, **{f"anchor_settings.{name}": path for name, path in self.anchor_config.files.items()}}

    def class_problems(self, classes: Sequence[str]) -> list[str]:
        """The Anchor's."""
        return [f"anchor_settings.{problem}" for problem in self.anchor_config.class_problems(classes)]

    @property
    def first(self) -> MethodConfig | None:
        """The Anchor's first network, trained with this recipe."""
        return self.anchor_config.first

    @property
    def first_method(self) -> str:
        return self.anchor_config.first_method or self.anchor

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.anchor,)


def _of_anchor(finding: Mapping[str, Any], known: Iterable[str]) -> str:
    """Message of a pydantic error in the Anchor's settings, with its location."""
    place = ".".join(map(str, ("anchor_settings", *finding["loc"])))
    if finding["type"] == "extra_forbidden":
        return f"{place}: unknown key{suggest(str(finding['loc'][-1]), known)}"
    return f"{place}: {finding['msg']}"
