"""The block ``report`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from pipeline.settings import Settings


class ReportSettings(Settings):
    title: str = Field("Results", description="heading of the tables and of the page")
    baseline: str | None = Field(None, description="run of `runs` against which the others' paired difference is shown")
    comparisons: dict[str, list[str]] = Field(
        {}, description="run of `runs` -> runs without one of its parts or of another kind, whose paired difference to it is shown"
    )
    baselines: dict[str, str] = Field(
        {}, description="run of `runs`, or a task -> run of that task to compare it, or all runs of the task, with instead of `baseline`"
    )
    papers: dict[str, str] = Field(
        {}, description="run of `runs` -> key in pipeline/report/published.yaml whose numbers it is compared with"
    )
    notes: dict[str, str] = Field({}, description="run of `runs` -> a footnote of yours to it")
    shown: list[str] | None = Field(None, description="runs in `dvc exp show`; null: all, while they take no more than a dozen columns")
    gallery: int = Field(24, ge=0, le=500, description="test clips in the page's gallery, spread over the classes")
    media_megabytes: float = Field(8.0, ge=0, description="largest file the page takes along for a clip; a larger one is made smaller")

    def baseline_of(self, run: str, task: str) -> str | None:
        """The run that a run is to be compared with; whether it is of the same task, the caller must see."""
        return self.baselines.get(run, self.baselines.get(task, self.baseline))
