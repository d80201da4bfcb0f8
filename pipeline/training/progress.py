"""What a training shows of itself: a bar on a terminal, elsewhere a line per epoch.

Each seed ends with a line of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from pipeline.text import duration

History = Sequence[Mapping[str, Any]]


class Bar(tqdm):
    """A bar on a terminal; elsewhere a line per epoch, on stdout.

    Args:
        desc: name of the training, in front of the bar and of every line.
        total: number of epochs; initial: number of those done.
    """

    def __init__(self, desc: str, total: int, initial: int) -> None:
        super().__init__(desc=desc, total=total, initial=initial, disable=None)
        self.name = desc

    def epoch(self, shown: str, line: str) -> None:
        """Count an epoch: ``shown`` stands behind the bar, ``line`` is printed where there is no bar."""
        self.set_postfix_str(shown, refresh=False)
        self.update()
        if self.disable:
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.disable:
            print(f"{self.name}: {line}", flush=True)
        else:
            self.write(f"{self.name}: {line}")


class Epochs:
    """Words for the epochs of a training, counted from 1.

    Args:
        headline: name of the metric on validation.
        selection: what the kept epoch is chosen by, as in a recipe.
        total: number of epochs; done: number of those done before.
    """

    def __init__(self, headline: str, selection: str | None, total: int, done: int) -> None:
        self.headline, self.selection, self.total, self.done = headline, selection or headline, total, done
        self.started = self.before = time.monotonic()

    def told(self, history: History, best: int) -> tuple[str, str]:
        """Describe the last epoch of ``history``: (briefly, in a whole line).

        ``best`` is the number of the epoch kept so far.
        """
        now, record, count = time.monotonic(), history[-1], len(history)
        seconds, self.before = now - self.before, now
        left = (now - self.started) / (count - self.done) * (self.total - count)
        losses = {key.removeprefix("train/"): f"{value:.4g}" for key, value in record.items() if key.startswith("train/")}
        scores = [f"{key.replace('/', ' ', 1)} {value:.2f}" for key, value in record.items() if key.startswith(("val/", "test/"))]
        scores += [f"kept {self._kept(history, best)}"] if best >= 0 else []
        terms = [f"{key} {value}" for key, value in losses.items()]
        parts = f"epoch {count} of {self.total}", ", ".join(terms), ", ".join(scores), f"{duration(seconds)}, {duration(left)} left"
        return ", ".join([f"loss {losses['total']}", *scores] if losses else scores), "; ".join(filter(None, parts))

    def summary(self, history: History, best: int, seconds: float) -> str:
        """Describe a finished training that kept the epoch of number ``best``."""
        kept = f"kept {self._kept(history, best, f'val {self.headline} ')}" if best >= 0 else "no epoch could be kept"
        return f"trained in {duration(seconds)}; {kept}"

    def _kept(self, history: History, best: int, name: str = "") -> str:
        if self.selection not in (self.headline, "last"):
            return f"epoch {best + 1}, by {self.selection}"
        score = history[best].get(f"val/{self.headline}")
        return f"epoch {best + 1}" + ("" if score is None else f" ({name}{score:.2f})")
