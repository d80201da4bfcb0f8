"""Files for watching a training, outside its outs: live metrics, and the clips of a step that ended it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dvclive import Live

from pipeline.publish import write_text
from pipeline.training.loggers import Logger, make_logger

NOT_FINITE = "not_finite.json"


def save_not_finite(live: Path, facts: dict[str, Any]) -> None:
    live.mkdir(parents=True, exist_ok=True)
    write_text(live / NOT_FINITE, json.dumps(facts, indent=1) + "\n")


class LiveMetrics:
    """DVCLive files to watch while training runs, and the loggers of ``train.loggers``.

    The published curves are not these, but ``curves.csv``, made from the checkpointed history. A watcher that fails (a full disk, a server
    out of reach) is named once and left out from then on: no training is lost to it.

    Args:
        directory: of the seed; its name and its parent's name a W&B run.
        history: records of the epochs before a resumption. Loggers start anew and get them first.
    """

    def __init__(self, directory: Path, history: Sequence[Mapping[str, Any]] = (), loggers: Iterable[str] = ()) -> None:
        self.watchers: dict[str, Live | Logger] = {}
        with self._named("live metrics"):  # also raises in a git repository without a commit
            self.watchers["live metrics"] = Live(dir=str(directory), resume=bool(history), save_dvc_exp=False, dvcyaml=None, report=None)
        for name in loggers:
            with self._named(name):
                self.watchers[name] = make_logger(name, directory)
        for record in history:
            self.log(record, again=True)

    def log(self, record: Mapping[str, Any], again: bool = False) -> None:
        """Show an epoch; ``again`` tells one that an earlier start has shown."""
        values = {key: value for key, value in record.items() if key != "epoch"}
        for name, watcher in list(self.watchers.items()):
            with self._named(name):
                if not isinstance(watcher, Live):
                    watcher.log_metrics(values, step=record["epoch"])
                    watcher.save()
                elif not again:  # DVCLive resumes its own files, and counts epochs itself
                    for key, value in values.items():
                        watcher.log_metric(key, value)
                    watcher.next_step()

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            print(f"no {name} from here on: {error or type(error).__name__}", flush=True)
            self.watchers.pop(name, None)

    def __enter__(self) -> LiveMetrics:
        return self

    def __exit__(self, *_: Any) -> None:
        for name, watcher in list(self.watchers.items()):
            with self._named(name):
                if not isinstance(watcher, Live):
                    watcher.finalize("success")
                else:
                    with suppress(FileNotFoundError):  # DVCLive's last act removes a mark that all trainings below one .dvc share
                        watcher.end()
