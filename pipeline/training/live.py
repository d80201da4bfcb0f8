"""Files for watching a training, outside its outs: DVCLive's metrics, and the clips of a step that ended it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dvclive import Live
from scmrepo.exceptions import SCMError

from pipeline.publish import write_text

NOT_FINITE = "not_finite.json"


def save_not_finite(live: Path, facts: dict[str, Any]) -> None:
    live.mkdir(parents=True, exist_ok=True)
    write_text(live / NOT_FINITE, json.dumps(facts, indent=1) + "\n")


class LiveMetrics:
    """DVCLive files to watch while training runs.

    The published curves are not these, but ``curves.csv``, made from the checkpointed history.
    """

    def __init__(self, directory: Path, resume: bool) -> None:
        self.live: Live | None = None
        try:
            self.live = Live(dir=str(directory), resume=resume, save_dvc_exp=False, dvcyaml=None, report=None)
        except SCMError as error:  # a git repository without a commit
            print(f"no live metrics: {error}")

    def log(self, record: dict[str, Any]) -> None:
        if self.live is not None:
            for key, value in record.items():
                if key != "epoch":  # DVCLive counts epochs itself
                    self.live.log_metric(key, value)
            self.live.next_step()

    def __enter__(self) -> LiveMetrics:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.live is not None:
            self.live.end()
