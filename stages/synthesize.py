"""Write a demo world below data/raw/.  Usage: python -m stages.synthesize WORLD"""

import inspect
from pathlib import Path

from tqdm import tqdm

from pipeline import config
from pipeline.cache import fingerprint
from pipeline.closure import digests
from pipeline.stage import publishing, run
from pipeline.synth.world import write_world
from stages.paths import PARAMS, RAW


def main(world: str) -> None:
    params = config.load(PARAMS)
    settings = config.pick(params.synth, world, "world")
    code = digests([Path(inspect.getfile(write_world))])
    with publishing(RAW / world, resume=fingerprint(code, settings.model_dump(mode="json"))) as directory:
        write_world(directory, settings, track=lambda clips, count: tqdm(clips, total=count, desc="synthesize", unit="clip", disable=None))


if __name__ == "__main__":
    run("synthesize", main, takes="world")
