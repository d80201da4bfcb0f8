"""The inputs that finetune, extract and report share: the index, the verdicts of `decode`, and the decoding jobs."""

import pandas as pd

from pipeline.cache import Cache
from pipeline.config import Params
from pipeline.datasets import read_index
from pipeline.media.decoding import make_jobs
from pipeline.media.job import Job
from pipeline.tables import read_table
from stages.paths import CLIPS, INDEX


def read_clips(params: Params, cache: Cache) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Job]]:
    """Read (index, manifest of `decode`, jobs by clip id)."""
    index, _ = read_index(INDEX, params.dataset.clips)
    jobs, _ = make_jobs(index, params.dataset.segments, params.dataset.segment_seconds, params.media, cache)
    return index, read_table(CLIPS / "clips.parquet"), jobs
