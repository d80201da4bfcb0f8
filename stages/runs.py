"""The inputs that train and evaluate share: a run's settings, features and labels."""

from pipeline import config
from pipeline.datasets import read_index
from pipeline.datasets.folds import read_folds
from pipeline.features.store import FeatureStore
from pipeline.made_from import folds_params
from pipeline.made_with import read_made_with
from pipeline.training.run import RunInputs
from stages.paths import FEATURES, FOLDS, INDEX, PARAMS


def read_run(name: str) -> tuple[RunInputs, config.Params]:
    params = config.load(PARAMS)
    run = config.pick(params.runs, name, "run")
    index, classes = read_index(INDEX)
    features = FeatureStore(FEATURES / run.features)
    of_index, of_features = read_made_with(INDEX), read_made_with(features.directory)
    made_with = {"params": {**of_index["params"], **folds_params(params), **of_features["params"]}, "machines": of_features["machines"]}
    return RunInputs(name, run, params.method_settings(name), features, index, classes, made_with, read_folds(FOLDS)), params
