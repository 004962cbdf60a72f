"""The paper's results and their corrections: what faults should do, without simulating any."""

from neurosim.theory.prediction import Prediction, predict

__all__ = ["Prediction", "predict"]
