"""Find the events in any video file with a trained run."""

from pipeline.predict.prediction import Prediction, WindowReport
from pipeline.predict.predictor import Predictor, Refused, load_exported, load_run

__all__ = ["Prediction", "Predictor", "Refused", "WindowReport", "load_exported", "load_run"]
