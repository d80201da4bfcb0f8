"""Make segment labels from teachers' outputs: data/features/NAME, with the features that it names; data/results/labels/NAME/quality.json.

Usage: python -m stages.label NAME
"""

import json

from pipeline import config
from pipeline.datasets import read_index
from pipeline.features.store import FeatureStore
from pipeline.labels.label_set import make_labels
from pipeline.labels.labelling import Labelling
from pipeline.made_from import features_params
from pipeline.made_with import read_made_with, write_made_with
from pipeline.publish import write_text
from pipeline.stage import publishing, run
from stages.paths import FEATURES, INDEX, LABELS, PARAMS


def main(name: str) -> None:
    params = config.load(PARAMS)
    settings = config.pick(params.labels, name, "name")
    index, classes = read_index(INDEX)
    features, teachers = FEATURES / settings.features, FEATURES / settings.teachers
    labelling = Labelling(name, settings, FeatureStore(features), FeatureStore(teachers), index, classes)
    with publishing(FEATURES / name) as directory:
        scores, lines = make_labels(labelling, directory)
        machines = read_made_with(features)["machines"] | {"labels": read_made_with(teachers)["machines"].get("features", [])}
        write_made_with(directory, features_params(params, name), machines)
    metrics = LABELS / name / "quality.json"
    metrics.parent.mkdir(parents=True, exist_ok=True)
    write_text(metrics, json.dumps(scores, indent=1) + "\n")
    for line in lines:
        print(f"label {name}: {line}")


if __name__ == "__main__":
    run("label", main, takes="name")
