"""Check ``dataset`` and ``media`` beyond their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.datasets import DATASETS
from pipeline.errors import PipelineError
from pipeline.media.settings import MediaSettings
from pipeline.schema import block, unknown


def problems(params: Mapping[str, Any]) -> list[str]:
    """Check the data set's kind, and the length of a segment in frames."""
    dataset = block(params, "dataset")
    return unknown("dataset.kind", dataset.get("kind"), DATASETS) + segment_problems(dataset, block(params, "media"))


def segment_problems(dataset: Mapping[str, Any], media: Mapping[str, Any]) -> list[str]:
    """Check that a segment holds a whole number of frames, at least one."""
    try:
        MediaSettings.model_validate(media).frames_per_segment(float(dataset["segment_seconds"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return []  # the schema reports it
    except PipelineError as error:
        return [str(error)]
    return []
