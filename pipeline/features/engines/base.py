"""What every engine offers: a place to decode and encode clips, and to leave their features in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

import pandas as pd

from pipeline.features.clip_encoder import Clip, ClipEncoder
from pipeline.features.lanes import Throughput
from pipeline.features.plan import ExtractionPlan
from pipeline.media.settings import MediaSettings


class Engine(Protocol):
    """A place to encode clips. Every engine produces the same bytes.

    Attributes:
        lost: why clips were given up, by the key of their job: each brought down all workers that tried it.
    """

    lost: Mapping[str, str]

    def encode(self, clips: Iterable[Clip], bar: bool = True) -> Throughput:
        """Put the features of ``clips`` that are missing into the cache.

        Args:
            clips: taken one by one, a few ahead of the encoders: they may be in the making.
            bar: show progress on a terminal.
        """
        ...

    def decode(self, plan: ExtractionPlan, missing: list[str], media: MediaSettings) -> pd.DataFrame:
        """Decode all clips of a plan, encode each as soon as it is decoded, and return the manifest.

        Args:
            missing: ids of clips without a file.
            media: the settings of the jobs.
        """
        ...


def on_cluster(engine: str, address: str) -> Callable[[ClipEncoder], Engine] | None:
    """Make the engine that ``machine.engine`` and ``machine.address`` choose; None for this process."""
    if engine == "local":
        return None
    from pipeline.features.engines.ray import RayEngine

    return partial(RayEngine, address)
