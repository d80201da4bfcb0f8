"""The streams that a label set adds to its features, by modality: 0 or 1, and 0 to 1."""

from __future__ import annotations

from typing import Any, Literal

HARD: dict[Literal["audio", "visual"], str] = {"audio": "audio_labels", "visual": "visual_labels"}
SOFT: dict[Literal["audio", "visual"], str] = {"audio": "audio_soft_labels", "visual": "visual_soft_labels"}
STREAMS = (*HARD.values(), *SOFT.values())


def without_labels(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec of a store as it would be without the labels of a label set."""
    shapes = {stream: shape for stream, shape in spec["shapes"].items() if stream not in STREAMS}
    return {key: value for key, value in spec.items() if key != "labels"} | {"shapes": shapes} if "labels" in spec else spec
