"""VALOR's prompts and thresholds for LLP's classes, in LLP's order (Lai, Chen, Wang, NeurIPS 2023).

Thresholds are logits of one checkpoint each, chosen by hand: CLIP openai/clip-vit-large-patch14, and LAION's CLAP 630k-fusion-best. The
latter is **not** Hugging Face's ``laion/clap-htsat-fused``, which is 630k-audioset-fusion-best; convert VALOR's with transformers'
script. The scale of the logits, exp(4.6052) and exp(3.2912), tells whether a checkpoint can be the one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.datasets.llp import CLASSES

_SEEN = (
    "people talking", "a car", "people cheering", "a dog", "a cat", "frying food", "people playing basketball", "a fire alarm",
    "a chainsaw", "a cello", "a banjo", "people singing", "a chicken or a rooster", "a violin", "a vaccum cleaner", "a laughing baby",
    "an accordion", "a lawnmower", "a motorcycle", "a helicopter", "a acoustic guiter", "a ringing telephone", "a crying baby",
    "a blender", "hands clapping",
)  # fmt: skip
_HEARD = (
    "speech", "car", "cheering", "dog", "cat", "frying (food)", "basketball bounce", "fire alarm", "chainsaw", "cello", "banjo", "singing",
    "chicken, rooster", "violin fiddle", "vacuum cleaner", "baby laughter", "accordion", "lawn mower", "motorcycle", "helicopter",
    "acoustic guitar", "telephone bell ringing", "baby cry, infant cry", "blender", "clapping",
)  # fmt: skip
_SEEN_THRESHOLDS = (20, 15, 18, 14, 15, 18, 18, 15, 15, 15, 15, 18, 15, 15, 15, 15, 15, 15, 15, 16, 14, 15, 15, 15, 18)
_HEARD_THRESHOLDS = (0, 0, 1, 4, 6, -2, 4, 4, 2, 2, 2, 1, 2, 3, 0, 2, 2, 2, 0, 2, -1, 2, 3, 3, 0)


@dataclass(frozen=True)
class Published:
    """What VALOR asks a teacher, by class, and the score from which it believes the answer.

    checkpoint: the weights that the thresholds belong to; scale: of their logits.
    """

    checkpoint: str
    scale: float
    prompts: dict[str, str]
    thresholds: dict[str, float]


VALOR: dict[Literal["audio", "visual"], Published] = {
    "audio": Published(
        "LAION's CLAP 630k-fusion-best (not laion/clap-htsat-fused)",
        26.87,
        {label: f"This is a sound of {text}" for label, text in zip(CLASSES, _HEARD, strict=True)},
        {label: float(threshold) for label, threshold in zip(CLASSES, _HEARD_THRESHOLDS, strict=True)},
    ),
    "visual": Published(
        "openai/clip-vit-large-patch14",
        100.0,
        {label: f"A photo of {text}." for label, text in zip(CLASSES, _SEEN, strict=True)},  # misspelt as released
        {label: float(threshold) for label, threshold in zip(CLASSES, _SEEN_THRESHOLDS, strict=True)},
    ),
}
