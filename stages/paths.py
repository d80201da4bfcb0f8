"""The paths of the stages' outs, the same as in dvc.yaml."""

from pathlib import Path

PARAMS = Path("params.yaml")
PLAN = Path("data/plan")
RAW = Path("data/raw")
INDEX = Path("data/index")
FOLDS = Path("data/folds")
CLIPS = Path("data/clips")
FEATURES = Path("data/features")
RESULTS = Path("data/results/runs")
LABELS = Path("data/results/labels")
REPORT = Path("data/results/report")
ENCODERS = Path("models/encoders")
RUNS = Path("models/runs")
LIVE = Path("dvclive")
