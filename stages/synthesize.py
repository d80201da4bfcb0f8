"""Write a demo world below data/raw/.

Usage: python -m stages.synthesize WORLD
"""

import inspect
import os
from functools import partial
from pathlib import Path

from tqdm import tqdm

from pipeline import config
from pipeline.cache import fingerprint
from pipeline.closure import digests
from pipeline.stage import publishing, run
from pipeline.synth.world import write_world
from stages.paths import PARAMS, RAW

CLIPS_OF_WORKER = 12  # at least: rendering fewer takes less time than another interpreter takes to start


def main(world: str) -> None:
    params = config.load(PARAMS)
    settings = config.pick(params.synth, world, "world")
    clips = settings.train_clips + settings.val_clips + settings.test_clips
    workers = max(1, min(len(os.sched_getaffinity(0)), clips // CLIPS_OF_WORKER))
    code = digests([Path(inspect.getfile(write_world))])
    with publishing(RAW / world, resume=fingerprint(code, settings.model_dump(mode="json"))) as directory:
        bar = partial(tqdm, desc="synthesize", unit="clip", disable=None)
        write_world(directory, settings, workers, lambda clips, count: bar(clips, total=count))


if __name__ == "__main__":
    run("synthesize", main, takes="world")
