"""What train and evaluate read alike: a row's settings, features and labels."""

from pipeline import config
from pipeline.datasets import read_index
from pipeline.features.store import FeatureStore
from pipeline.training.rows import RowInputs
from stages.paths import FEATURES, INDEX, PARAMS


def read_row(name: str) -> tuple[RowInputs, config.Params]:
    params = config.load(PARAMS)
    run = config.pick(params.runs, name, "row")
    index, classes = read_index(INDEX)
    return RowInputs(name, run, params.method_settings(name), FeatureStore(FEATURES / run.features), index, classes), params
