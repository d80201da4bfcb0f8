"""Localize the events of any video file with a trained run of the results table."""

from pipeline.predict.prediction import Prediction, WindowReport
from pipeline.predict.predictor import Predictor, Refused, predict

__all__ = ["Prediction", "Predictor", "Refused", "WindowReport", "predict"]
