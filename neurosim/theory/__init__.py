"""The paper's results and their corrections: what faults should do, without simulating any."""

from neurosim.theory import bounds, continuity, tails
from neurosim.theory.assumptions import Assumptions, check_assumptions
from neurosim.theory.noise import NoisePrediction, WeightNoise, predict_noise
from neurosim.theory.prediction import Prediction, predict
from neurosim.theory.sites import Effect, Site, SitePrediction, predict_sites

__all__ = [
    "Assumptions",
    "Effect",
    "NoisePrediction",
    "Prediction",
    "Site",
    "SitePrediction",
    "WeightNoise",
    "bounds",
    "check_assumptions",
    "continuity",
    "predict",
    "predict_noise",
    "predict_sites",
    "tails",
]
