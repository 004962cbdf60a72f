"""The paper's results and their corrections: what faults should do, without simulating any."""

from neurosim.theory import bounds, continuity, tails
from neurosim.theory.assumptions import Assumptions, check_assumptions
from neurosim.theory.prediction import Prediction, predict

__all__ = [
    "Assumptions",
    "Prediction",
    "bounds",
    "check_assumptions",
    "continuity",
    "predict",
    "tails",
]
