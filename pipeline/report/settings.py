"""The block ``report`` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from pipeline.settings import Settings


class ReportSettings(Settings):
    title: str = Field("Results", description="heading of the tables and of the page")
    baseline: str | None = Field(None, description="run of `runs` to which the paired difference of every other run is shown")
    comparisons: dict[str, list[str]] = Field(
        {}, description="run of `runs` -> runs to compare it with (without one of its parts, or of another kind), by paired difference"
    )
    baselines: dict[str, str] = Field(
        {}, description="run of `runs`, or a task -> run to compare it (or all runs of the task) with instead of `baseline`"
    )
    papers: dict[str, str] = Field(
        {}, description="run of `runs` -> key in pipeline/report/published.yaml of the numbers to compare it with"
    )
    dense_labels: dict[str, str] = Field(
        {}, description="run of `runs` -> the labels of segments or events behind its pseudo-labels, in words; it is marked in all tables"
    )
    notes: dict[str, str] = Field({}, description="run of `runs` -> your own footnote to it")
    shown: list[str] | None = Field(None, description="runs in `dvc exp show`; null: all, as far as they fit a dozen columns")
    gallery: int = Field(24, ge=0, le=500, description="test clips in the page's gallery, spread over the classes")
    media_megabytes: float = Field(8.0, ge=0, description="largest file that the page copies for a clip; larger ones are made smaller")

    def baseline_of(self, run: str, task: str) -> str | None:
        """The run to compare a run with; the caller checks that both have the same task."""
        return self.baselines.get(run, self.baselines.get(task, self.baseline))
