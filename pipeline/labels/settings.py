"""The block ``labels`` of params.yaml: one entry per set of segment labels made by teachers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.settings import Settings

FILES = ("texts", "class_names")  # settings of a teacher that name files
Threshold = Annotated[float, Field(ge=-1000, le=1000)]


class Teacher(Settings):
    """Where one modality's labels come from; without texts and classes, the clip's are on in all segments."""

    texts: Path | None = Field(
        None, description="text table of `python -m pipeline texts`; a class scores by the cosine of the teacher's features and its text"
    )
    classes: dict[str, tuple[str, ...]] = Field(
        {},
        description="for a teacher with classes of its own (yamnet, layer: scores): by class of the data set, those of the teacher's of"
        " which the highest probability counts; []: none corresponds, and the clip's label is on in all segments",
    )
    class_names: Path | None = Field(None, description="CSV of the teacher's classes in order, with a column display_name; with `classes`")
    thresholds: Threshold | dict[str, Threshold] | Literal["valor", "background", "searched"] | None = Field(
        None,
        description="a label is on where its score exceeds: a number | one by class | valor: VALOR's for CLIP and CLAP on LLP | background:"
        " most scores of training clips without it | searched: by F1 on the dense labels of validation, which the tables then say",
    )
    background: float = Field(
        0.9, gt=0, lt=1, description="with thresholds: background, the share of those segments' scores that the threshold is to exceed"
    )
    weights: str | None = Field(
        None, description="first digits of the sha256 of the encoder's weights that texts and thresholds belong to; null: not compared"
    )
    temperature: float = Field(
        2.0, gt=0, le=1000, description="of soft labels: sigmoid of (score - threshold) / temperature; of probabilities, their logits"
    )
    never: tuple[str, ...] = Field((), description="classes whose labels are off in all segments, such as Speech in visual")

    @field_validator("weights")
    @classmethod
    def _digits(cls, value: str | None) -> str | None:
        if value is not None and (len(value) < 8 or set(value) - set("0123456789abcdef")):
            raise ValueError("give at least the first eight digits of the sha256, as `spec.json` of the teachers' features has it")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.texts is not None and self.classes:
            raise ValueError("texts and classes are for different teachers; leave one out")
        if bool(self.classes) != (self.class_names is not None):
            raise ValueError("classes and class_names go together: the teacher's class names, and which of them stand for a class")
        if self.scores and self.thresholds is None:
            raise ValueError("a teacher needs thresholds: a number, one by class, valor, background, or searched")
        if self.thresholds == "valor" and self.texts is None:
            raise ValueError("thresholds: valor belong to CLIP and CLAP, which need texts")
        if self.classes:
            values = self.thresholds.values() if isinstance(self.thresholds, dict) else [self.thresholds]
            if bad := [value for value in values if isinstance(value, float | int) and not 0 <= value < 1]:
                raise ValueError(f"thresholds of probabilities lie in 0..1, below 1 (here: {bad[0]:g})")
        return self

    @property
    def scores(self) -> bool:
        """Whether there is a teacher at all."""
        return self.texts is not None or bool(self.classes)

    @property
    def searches(self) -> bool:
        """Whether dense labels choose the thresholds."""
        return self.scores and self.thresholds == "searched"


class LabelSet(Settings):
    """Segment labels, stored with the features that runs train on as the feature set named like this entry."""

    features: str = Field(description="entry of `features` or `imports` whose features the set holds beside the labels")
    teachers: str = Field(description="entry of `features` or `imports` with the teachers' outputs; may be the same")
    audio: Teacher = Field(Teacher(), description="labels of audible classes")
    visual: Teacher = Field(Teacher(), description="labels of visible classes")
    max_missing_fraction: float = Field(
        0.05, ge=0, le=1, description="largest share of clips without the teachers' outputs that is accepted; they keep the clip's labels"
    )

    @property
    def by_modality(self) -> dict[Literal["audio", "visual"], Teacher]:
        return {"audio": self.audio, "visual": self.visual}

    @property
    def files(self) -> dict[str, Path]:
        """Named files by the path of their setting in the entry."""
        named = {f"{modality}.{key}": getattr(teacher, key) for modality, teacher in self.by_modality.items() for key in FILES}
        return {setting: path for setting, path in named.items() if path is not None}
