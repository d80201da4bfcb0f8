"""The block ``report`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from pipeline.settings import Settings


class ReportSettings(Settings):
    title: str = Field("Results", description="heading of the tables and of the page")
    baseline: str | None = Field(None, description="row of `runs` against which the others' paired difference is shown")
