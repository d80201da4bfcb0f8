"""Base of everything that is read from params.yaml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """An unknown key is an error, never ignored; a value read once does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
