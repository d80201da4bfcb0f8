"""MM-Pyramid's recipe, for parsing as released and for localization."""

from __future__ import annotations

from pydantic import Field

from pipeline.methods.base import Recipe


class MmPyramidRecipe(Recipe):
    """Adam 1e-4, divided by 10 every ten epochs, 40 epochs, batches of 16, as released."""

    learning_rate: float = Field(1e-4, gt=0)
    milestones: tuple[int, ...] = (10, 20, 30)
    decay: float = Field(0.1, gt=0, le=1)
    batch_size: int = Field(16, ge=1)
    epochs: int = Field(40, ge=1)
