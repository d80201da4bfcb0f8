"""Files for watching a training, outside its outs: live metrics, and the clips of a step that ended it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvclive import Live
from scmrepo.exceptions import SCMError

from pipeline.publish import write_text
from pipeline.training.loggers import make_logger

NOT_FINITE = "not_finite.json"


def save_not_finite(live: Path, facts: dict[str, Any]) -> None:
    live.mkdir(parents=True, exist_ok=True)
    write_text(live / NOT_FINITE, json.dumps(facts, indent=1) + "\n")


class LiveMetrics:
    """DVCLive files to watch while training runs, and the loggers of ``train.loggers``.

    The published curves are not these, but ``curves.csv``, made from the checkpointed history.

    Args:
        directory: of the seed; its name and its parent's name a W&B run.
        history: records of the epochs before a resumption. Loggers start anew and get them first.
    """

    def __init__(self, directory: Path, history: Sequence[Mapping[str, Any]] = (), loggers: Iterable[str] = ()) -> None:
        self.live: Live | None = None
        try:
            self.live = Live(dir=str(directory), resume=bool(history), save_dvc_exp=False, dvcyaml=None, report=None)
        except SCMError as error:  # a git repository without a commit
            print(f"no live metrics: {error}")
        self.loggers = [make_logger(name, directory) for name in loggers]
        for record in history:
            self._log(record)

    def log(self, record: Mapping[str, Any]) -> None:
        if self.live is not None:
            for key, value in record.items():
                if key != "epoch":  # DVCLive counts epochs itself
                    self.live.log_metric(key, value)
            self.live.next_step()
        self._log(record)

    def _log(self, record: Mapping[str, Any]) -> None:
        for logger in self.loggers:
            logger.log_metrics({key: value for key, value in record.items() if key != "epoch"}, step=record["epoch"])
            logger.save()

    def __enter__(self) -> LiveMetrics:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.live is not None:
            self.live.end()
        for logger in self.loggers:
            logger.finalize("success")
