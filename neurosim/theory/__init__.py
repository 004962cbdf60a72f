"""The paper's results and their corrections: what faults should do, without simulating any."""

from neurosim.theory.noise import NoisePrediction, WeightNoise, predict_noise
from neurosim.theory.prediction import Prediction, predict
from neurosim.theory.sites import Effect, Site, SitePrediction, predict_sites

__all__ = [
    "Effect",
    "NoisePrediction",
    "Prediction",
    "Site",
    "SitePrediction",
    "WeightNoise",
    "predict",
    "predict_noise",
    "predict_sites",
]
